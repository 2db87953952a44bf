#include "tuning/tuning_loop.h"

#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>

#include <cmath>
#include <filesystem>
#include <functional>
#include <limits>

#include "base/error.h"
#include "io/hf_checkpoint.h"
#include "tuning/tuning_sample_for_test.h"

namespace pq::quant {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
namespace fs = std::filesystem;

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

/// Three values that learn a batch's number by squares, and one that stays. `failing(call)`: that call's loss and
/// gradients are not finite.
class Fit : public Tunable {
 public:
  explicit Fit(double rate = 0.01, std::function<bool(int)> failing = {})
      : parameters_{make_parameter("learns", ParameterKind::weight, at::ones({3}), rate),
                    make_parameter("stays", ParameterKind::weight, at::ones({2}), 0)},
        failing_(std::move(failing)) {}

  const std::vector<Parameter>& parameters() const override { return parameters_; }
  double gradients(const SequenceShards::Batch& batch) override {
    if (stop_at_call == calls) throw std::runtime_error("killed");
    const bool fails = failing_ && failing_(calls);
    ++calls;
    const at::AutoGradMode with_gradients(true);
    const double goal = static_cast<double>(batch.rows.at(0)) / 10;
    const at::Tensor loss = (parameters_[0].value - goal).square().mean() * (fails ? not_a_number : 1.0);
    loss.backward();
    return loss.item<double>();
  }
  double judge() override {
    ++judged;
    return judge_as ? judge_as(judged) : parameters_[0].value.detach().square().mean().item<double>();
  }
  void keep_in_range() override { ++kept; }
  void restore() override {
    const at::NoGradGuard no_grad;
    ++restored;
    parameters_[0].value.fill_(1);
  }

  std::vector<float> values() const { return to_floats(parameters_[0].value.detach()); }

  int calls = 0;
  int judged = 0;
  int kept = 0;
  int restored = 0;
  int stop_at_call = -1;
  std::function<double(int)> judge_as;

 private:
  std::vector<Parameter> parameters_;
  std::function<bool(int)> failing_;
};

class TuningLoop : public testing::Test {
 protected:
  const QuietLog quiet;
  TuningLoop() { fs::remove_all(directory); }
  ~TuningLoop() override { fs::remove_all(directory); }

  Tuning tune(Fit& fit, std::int64_t epochs, io::ResumeJournal* journal = nullptr) const {
    return quant::tune(fit, {"block 3", "block-3", 3, epochs, "finetune.e2e_rate"},
                       {recipe, shards, Communicator::world(), journal});
  }
  io::ResumeJournal journal() const { return {directory, Json{{"seed", 0}}, ModelSpec(), recipe, {}}; }

  const fs::path directory = fs::path(testing::TempDir()) / "pq_tuning_loop";
  Recipe recipe;
  SequenceShards shards{8, 0, 4, 0, 1};  // two steps an epoch
};

TEST_F(TuningLoop, TunesJudgesAndReports) {
  Fit fit;
  const Tuning tuning = tune(fit, 3);
  EXPECT_EQ(fit.calls, 6);
  EXPECT_EQ(fit.kept, 6);
  EXPECT_EQ(fit.judged, 4);
  EXPECT_EQ(fit.restored, 0);
  EXPECT_EQ(tuning.epochs.size(), 3U);
  EXPECT_EQ(tuning.start_loss, 1);
  EXPECT_LT(tuning.end_loss, 1);
  EXPECT_EQ(tuning.end_loss, tuning.epochs.back().validation);
  EXPECT_GT(tuning.epochs[0].tuning, tuning.epochs[2].tuning);
  EXPECT_FALSE(tuning.kept_start);
  EXPECT_FALSE(tuning.halved);
  EXPECT_EQ(fit.parameters()[1].value.sum().item<float>(), 2);
  EXPECT_FALSE(fit.parameters()[0].value.grad().defined());
}

TEST_F(TuningLoop, WithoutEpochsNothingHappens) {
  Fit fit;
  const Tuning tuning = tune(fit, 0);
  EXPECT_EQ(fit.calls, 0);
  EXPECT_EQ(tuning.end_loss, tuning.start_loss);
  EXPECT_FALSE(tuning.kept_start);
}

TEST_F(TuningLoop, WhatEndsWorseOrAsNoNumberIsRestored) {
  Fit fit;
  fit.judge_as = [](int judged) { return judged == 1 ? 0.25 : 0.5; };
  testing::internal::CaptureStderr();
  const Tuning tuning = tune(fit, 2);
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              HasSubstr("warning: block 3: its loss went from 0.25 to 0.5; it keeps its start values\n"));
  EXPECT_TRUE(tuning.kept_start);
  EXPECT_EQ(tuning.end_loss, 0.25);
  EXPECT_EQ(fit.restored, 1);
  EXPECT_THAT(fit.values(), ElementsAre(1, 1, 1));

  Fit even;
  even.judge_as = [](int) { return 0.25; };
  EXPECT_FALSE(tune(even, 2).kept_start);
}

TEST_F(TuningLoop, ALossThatIsNotFiniteRestoresAndHalvesTheRateOnce) {
  Fit whole(0.01);
  tune(whole, 2);
  Fit half(0.005);
  tune(half, 2);
  Fit fit(0.01, [](int call) { return call == 2; });  // the first step of the second epoch
  testing::internal::CaptureStderr();
  const Tuning tuning = tune(fit, 2);
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, HasSubstr("warning: block 3, epoch 2, step 1: the loss is not finite; "));
  EXPECT_THAT(log, HasSubstr("trained again at half the learning rate\n"));
  EXPECT_TRUE(tuning.halved);
  EXPECT_EQ(tuning.epochs.size(), 2U);
  EXPECT_EQ(fit.restored, 1);
  EXPECT_EQ(fit.calls, 3 + 4);
  // As if it had begun so: neither moments nor gradients of the failed attempt are left.
  EXPECT_EQ(fit.values(), half.values());
  EXPECT_NE(fit.values(), whole.values());
}

TEST_F(TuningLoop, AJudgementThatIsNotFiniteCountsAsFailure) {
  Fit fit;
  fit.judge_as = [](int judged) { return judged == 2 ? not_a_number : 1.0 / judged; };
  testing::internal::CaptureStderr();
  const Tuning tuning = tune(fit, 2);
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              HasSubstr("warning: block 3, epoch 1, validation: the loss is not finite; "));
  EXPECT_TRUE(tuning.halved);
  EXPECT_FALSE(tuning.kept_start);
  EXPECT_EQ(tuning.epochs.size(), 2U);
}

TEST_F(TuningLoop, ASecondLossThatIsNotFiniteStopsWithTheStepsName) {
  Fit fit(0.01, [](int call) { return call == 1 || call == 5; });
  testing::internal::CaptureStderr();
  std::string message;
  try {
    tune(fit, 3);
  } catch (const InputError& error) {
    message = error.what();
  }
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("block 3, epoch 1, step 2"));
  EXPECT_THAT(message, HasSubstr("block 3, epoch 2, step 2: the loss is not finite, at half the learning rate too; "));
  EXPECT_THAT(message, HasSubstr("begin anew with smaller --set finetune.e2e_rate"));
  EXPECT_THAT(message, HasSubstr("finetune.clip_gradient=1"));
  EXPECT_THAT(message, Not(HasSubstr("\n")));
}

TEST_F(TuningLoop, GoesOnFromEveryEpochToTheSameValues) {
  for (const bool fails : {false, true}) {
    const auto failing = [fails](int call) { return fails && call == 3; };
    Fit expected(0.01, failing);
    testing::internal::CaptureStderr();
    const Tuning whole = tune(expected, 3);
    testing::internal::GetCapturedStderr();
    const int all_calls = expected.calls;
    for (int stop = 0; stop < all_calls; ++stop) {
      testing::internal::CaptureStderr();  // its warnings
      SCOPED_TRACE(testing::Message() << stop << (fails ? ", halved" : ""));
      fs::remove_all(directory);
      {
        Fit stopped(0.01, failing);
        stopped.stop_at_call = stop;
        io::ResumeJournal saved = journal();
        EXPECT_THROW(tune(stopped, 3, &saved), std::runtime_error);
      }
      io::ResumeJournal found = journal();
      const std::optional<io::TuningState> state = found.state("block-3");
      EXPECT_EQ(state.has_value(), stop >= 2);
      // What failed before the first epoch of the new attempt was saved fails again.
      const bool again = fails && (!state || !state->notes.at("halved").get<bool>());
      const int done = state ? 2 * static_cast<int>(state->notes.at("epochs").size()) : 0;
      Fit resumed(0.01, [&](int call) { return again && call == 3 - done; });
      const Tuning tuning = tune(resumed, 3, &found);
      EXPECT_EQ(resumed.values(), expected.values());
      EXPECT_EQ(tuning.start_loss, whole.start_loss);
      EXPECT_EQ(tuning.end_loss, whole.end_loss);
      EXPECT_EQ(tuning.halved, fails);
      ASSERT_EQ(tuning.epochs.size(), 3U);
      for (std::size_t i = 0; i < 3; ++i) {
        EXPECT_EQ(tuning.epochs[i].tuning, whole.epochs[i].tuning);
        EXPECT_EQ(tuning.epochs[i].validation, whole.epochs[i].validation);
      }
      // Stopped after its last epoch, it tunes no more.
      Fit after;
      tune(after, 3, &found);
      EXPECT_EQ(after.calls, 0);
      EXPECT_EQ(after.values(), expected.values());
      testing::internal::GetCapturedStderr();
    }
  }
}

TEST_F(TuningLoop, AStateOfOtherParametersIsRefused) {
  io::ResumeJournal saved = journal();
  Fit fit;
  tune(fit, 1, &saved);
  io::TuningState state = *saved.state("block-3");
  state.tensors[1].name = "other";
  saved.save_state("block-3", state);
  try {
    Fit resumed;
    tune(resumed, 1, &saved);
    FAIL() << "accepted";
  } catch (const FormatError& error) {
    EXPECT_THAT(error.what(), HasSubstr("holds no tensor 'learns.first_moment' that fits; begin anew with --restart"));
  }
  Fit other;
  EXPECT_FALSE(saved.state("block-4"));
}

TEST_F(TuningLoop, ReportsSurviveJson) {
  Tuning tuning{1.5, not_a_number, {{2, 3}, {not_a_number, 4}}, true, true, 7.5};
  const Tuning back = tuning_from_json(Json::parse(tuning_to_json(tuning).dump()));
  EXPECT_EQ(back.start_loss, 1.5);
  EXPECT_TRUE(std::isnan(back.end_loss));
  ASSERT_EQ(back.epochs.size(), 2U);
  EXPECT_EQ(back.epochs[0].validation, 3);
  EXPECT_TRUE(std::isnan(back.epochs[1].tuning));
  EXPECT_TRUE(back.kept_start && back.halved);
  EXPECT_EQ(back.seconds, 7.5);
}

}  // namespace
}  // namespace pq::quant
