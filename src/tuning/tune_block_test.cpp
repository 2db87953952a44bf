#include "tuning/tune_block.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <set>

#include "base/error.h"
#include "base/random.h"
#include "tuning/stream_place.h"
#include "tuning/tuning_sample_for_test.h"

namespace pq::quant {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

std::vector<std::int64_t> rows_from(std::int64_t begin, std::int64_t end) {
  std::vector<std::int64_t> rows(static_cast<std::size_t>(end - begin));
  std::iota(rows.begin(), rows.end(), begin);
  return rows;
}

/// Without the search, which leaves little to be learned from a few sequences.
Recipe plain_start(const std::string& name, std::vector<std::string> settings = {}) {
  for (const char* search : {"weight", "activation", "kv", "gptq"}) {
    settings.push_back(fmt::format("search.{}=false", search));
  }
  return quick_recipe(name, settings);
}

struct Result {
  Tuning tuning;
  BlockStart tuned;
};
Result tune_sample(const TuningSample& sample, io::ResumeJournal* journal = nullptr, std::int64_t index = 0) {
  const at::NoGradGuard no_grad;
  Result result{{}, sample.start};
  const TuningRun run = sample.run(journal);
  result.tuning = tune_block(sample.place(index), result.tuned, sample.streams, run);
  return result;
}

class TuneBlock : public testing::Test {
 protected:
  const QuietLog quiet;
};

TEST_F(TuneBlock, LossFallsForEveryTargetAndIsThatOfTheCheckpoint) {
  for (const char* target : {"full-precision", "quantized", "both"}) {
    for (const char* name : {"w4a4kv4-static", "w4a4kv4-dynamic", "w2a16g128"}) {
      SCOPED_TRACE(testing::Message() << name << ", target " << target);
      const TuningSample sample(plain_start(name, {std::string("finetune.target=") + target}));
      const auto loss = [&](const BlockStart& of, const std::vector<std::int64_t>& rows) {
        const double full = sample.obvious_loss(of, sample.streams.target, rows);
        const double quantized = sample.obvious_loss(of, sample.streams.quantized_target, rows);
        return std::string(target) == "full-precision" ? full
               : std::string(target) == "quantized"    ? quantized
                                                       : (full + quantized) / 2;
      };
      const auto [tuning, tuned] = tune_sample(sample);
      // Sums in another order, and products of another size, in which a code may fall to the other side.
      EXPECT_NEAR(tuning.start_loss, loss(sample.start, rows_from(16, 20)), 1e-3 * tuning.start_loss);
      EXPECT_NEAR(tuning.end_loss, loss(tuned, rows_from(16, 20)), 1e-3 * tuning.end_loss);
      EXPECT_LT(tuning.end_loss, 0.95 * tuning.start_loss);
      EXPECT_LT(loss(tuned, rows_from(0, 16)), 0.95 * loss(sample.start, rows_from(0, 16)));
      EXPECT_EQ(tuning.epochs.size(), 2U);
      EXPECT_FALSE(tuning.kept_start);
    }
  }
}

TEST_F(TuneBlock, BehindAPrefixAndOnOddFormats) {
  const TuningSample sample(
      plain_start("w4a4kv4-dynamic", {"activation.symmetric=false", "weight.granularity=group", "weight.group=96",
                                      "weight.symmetric=false", "finetune.skip_mse=true", "finetune.batch=3"}),
      {8142, 13, 1});
  const auto [tuning, tuned] = tune_sample(sample);
  EXPECT_NEAR(tuning.start_loss, sample.obvious_loss(sample.start, sample.streams.target, rows_from(16, 20)),
              1e-3 * tuning.start_loss);
  EXPECT_LT(tuning.end_loss, 0.98 * tuning.start_loss);
}

TEST_F(TuneBlock, WithoutValidationTheTuningSequencesJudge) {
  const TuningSample sample(plain_start("w4a4kv4-static", {"finetune.validation=0"}));
  ASSERT_EQ(sample.shards.owned().size(), 16U);
  const auto [tuning, tuned] = tune_sample(sample);
  EXPECT_NEAR(tuning.start_loss, sample.obvious_loss(sample.start, sample.streams.target, rows_from(0, 16)),
              1e-3 * tuning.start_loss);
  EXPECT_LT(tuning.end_loss, tuning.start_loss);
}

TEST_F(TuneBlock, ARateOfZeroLeavesItsParametersAsTheyAre) {
  const auto same_weights = [](const BlockStart& a, const BlockStart& b) {
    bool same = true;
    for (const LinearId i : all_linears) {
      same = same && at::equal(a.block.linears[i].weight, b.block.linears[i].weight);
    }
    return same;
  };
  const auto same_quantizers = [](const BlockStart& a, const BlockStart& b) {
    bool same = true;
    for (const LinearId i : all_linears) {
      same = same && at::equal(a.weight_scales[i].scale, b.weight_scales[i].scale);
    }
    for (const Site i : quantized_sites) same = same && a.sites[i].scale == b.sites[i].scale;
    return same;
  };
  const auto tune = [](const char* weight_rate, const char* quantizer_rate) {
    const TuningSample sample(
        plain_start("w4a4kv4-static", {std::string("finetune.weight_rate=") + weight_rate,
                                       std::string("finetune.quantizer_rate=") + quantizer_rate, "finetune.epochs=1"}));
    return std::pair{tune_sample(sample), sample.start};
  };
  const auto [scales_only, start] = tune("0", "0.0001");
  EXPECT_TRUE(same_weights(scales_only.tuned, start));
  EXPECT_FALSE(same_quantizers(scales_only.tuned, start));
  EXPECT_LT(scales_only.tuning.end_loss, scales_only.tuning.start_loss);
  const auto weights_only = tune("0.0001", "0").first;
  EXPECT_FALSE(same_weights(weights_only.tuned, start));
  EXPECT_TRUE(same_quantizers(weights_only.tuned, start));
  EXPECT_LT(weights_only.tuning.end_loss, weights_only.tuning.start_loss);
  const auto nothing = tune("0", "0").first;
  EXPECT_TRUE(same_weights(nothing.tuned, start) && same_quantizers(nothing.tuned, start));
  EXPECT_EQ(nothing.tuning.end_loss, nothing.tuning.start_loss);
  EXPECT_FALSE(nothing.tuning.kept_start);
}

TEST_F(TuneBlock, WhatEndsWorseKeepsItsStartBitForBit) {
  const TuningSample sample(plain_start("w4a4kv4-static", {"finetune.weight_rate=1e30"}));
  testing::internal::CaptureStderr();
  const auto [tuning, tuned] = tune_sample(sample);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("block 0: its loss went from "));
  EXPECT_TRUE(tuning.kept_start);
  EXPECT_FALSE(tuning.halved);
  EXPECT_EQ(tuning.end_loss, tuning.start_loss);
  EXPECT_GT(tuning.epochs.back().validation, tuning.start_loss);
  expect_same_block(round_block(tuned, sample.recipe, 0), round_block(sample.start, sample.recipe, 0));
}

TEST_F(TuneBlock, ALossThatStaysNotFiniteKeepsTheBlocksBefore) {
  const TuningSample sample(plain_start("w2a16g128", {"finetune.weight_rate=1e30", "finetune.quantizer_rate=1e30"}));
  const fs::path directory = fs::path(testing::TempDir()) / "pq_not_finite";
  fs::remove_all(directory);
  const auto open = [&] {
    return io::ResumeJournal(directory, Json{{"seed", 0}}, sample.spec(), sample.recipe,
                             online_rotations(sample.spec(), sample.recipe.rotate));
  };
  std::string message;
  testing::internal::CaptureStderr();
  {
    io::ResumeJournal journal = open();
    journal.save_block(0, round_block(sample.start, sample.recipe, 0), Json::object());
    try {
      tune_sample(sample, &journal, 1);
    } catch (const InputError& error) {
      message = error.what();
    }
  }
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              HasSubstr("warning: block 1, epoch 1, step 2: the loss is not finite; "));
  EXPECT_THAT(message, HasSubstr("block 1, epoch 1, step 2: the loss is not finite, at half the learning rate too; "));
  EXPECT_THAT(message, HasSubstr("finetune.quantizer_rate"));
  const io::ResumeJournal journal = open();
  EXPECT_EQ(journal.finished_blocks(), 1);
  expect_same_block(journal.block(0), round_block(sample.start, sample.recipe, 0));
  fs::remove_all(directory);
}

TEST_F(TuneBlock, ClippedGradientsTuneLess) {
  const auto moved = [](const char* limit) {
    const TuningSample sample(plain_start("w4a4kv4-static", {std::string("finetune.clip_gradient=") + limit}));
    const BlockStart tuned = tune_sample(sample).tuned;
    double sum = 0;
    for (const LinearId i : all_linears) {
      sum += (tuned.block.linears[i].weight - sample.start.block.linears[i].weight).square().sum().item<double>();
    }
    return std::sqrt(sum);
  };
  const double free = moved("0");
  EXPECT_GT(free, 0);
  EXPECT_EQ(moved("1e30"), free);
  // Gradients far below AdamW's epsilon of 1e-8 move their parameters by less than their rate.
  EXPECT_LT(moved("1e-9"), 0.2 * free);
}

TEST_F(TuneBlock, BfloatArithmeticIsNearFloat) {
  for (const char* name : {"w4a8kv4-static", "w4a16g128"}) {
    SCOPED_TRACE(name);
    const TuningSample single(plain_start(name));
    const TuningSample half(plain_start(name, {"finetune.compute=bf16"}));
    const TunableBlock block(half.start, half.recipe, 0, compute_type(half.recipe), half.options);
    for (const auto& parameter : block.parameters()) EXPECT_EQ(parameter.value.scalar_type(), at::kFloat);
    const auto [tuning, tuned] = tune_sample(half);
    const auto [expected, single_tuned] = tune_sample(single);
    // The root of the loss is a distance, so it differs by at most the distance of the two outputs: each of the some
    // ten operations in a row rounds by up to 2^-9 of its result, none of which is much larger than the output.
    const double output = half.streams.target.square().mean().sqrt().item<double>();
    const double bound = 10 * std::ldexp(1.0, -9) * output;
    EXPECT_NE(tuning.start_loss, expected.start_loss);
    EXPECT_NEAR(std::sqrt(tuning.start_loss), std::sqrt(expected.start_loss), bound);
    // What it learned is as good, judged in float32.
    const auto judged = [&](const BlockStart& of) {
      return half.obvious_loss(of, half.streams.target, rows_from(16, 20));
    };
    EXPECT_LT(judged(tuned), judged(half.start) - 0.7 * (judged(half.start) - judged(single_tuned)));
  }
}

TEST_F(TuneBlock, StreamsOnDiskGiveTheSameBytes) {
  TuningSample sample(plain_start("w4a4kv4-dynamic", {"finetune.target=both", "finetune.epochs=1"}));
  const Result in_memory = tune_sample(sample);
  const StreamPlace place(testing::TempDir());
  for (at::Tensor* stream : {&sample.streams.input, &sample.streams.target, &sample.streams.quantized_target}) {
    at::Tensor mapped = place.allocate(stream->sizes());
    mapped.copy_(*stream);
    *stream = mapped;
  }
  const Result on_disk = tune_sample(sample);
  expect_same_block(round_block(on_disk.tuned, sample.recipe, 0), round_block(in_memory.tuned, sample.recipe, 0));
  EXPECT_EQ(on_disk.tuning.end_loss, in_memory.tuning.end_loss);
}

at::Tensor random_target(std::int64_t rows, std::int64_t tokens, std::int64_t hidden) {
  at::Tensor x = at::empty({rows, tokens, hidden}, at::kFloat);
  Random random(3, "target");
  for (std::int64_t i = 0; i < x.numel(); ++i) x.data_ptr<float>()[i] = static_cast<float>(random.normal());
  return x;
}

TEST(TokensThatCount, SkipMseLeavesOutTheThreeLargestOfEverySequence) {
  Recipe recipe = named_recipe("w4a4kv4-static");
  recipe.finetune.loss = TuningLoss::mse;
  const at::Tensor target = random_target(19, 40, 6);
  EXPECT_FALSE(token_weights(target, recipe, false).defined());
  recipe.finetune.skip_mse = true;
  const at::Tensor keep = token_weights(target, recipe, false);
  ASSERT_EQ(keep.sizes(), (std::vector<std::int64_t>{19, 40}));
  for (std::int64_t row = 0; row < 19; ++row) {
    std::vector<std::pair<float, std::int64_t>> sizes;
    for (std::int64_t token = 0; token < 40; ++token) {
      float sum = 0;
      for (std::int64_t channel = 0; channel < 6; ++channel) sum += std::abs(target[row][token][channel].item<float>());
      sizes.emplace_back(sum, token);
    }
    std::sort(sizes.rbegin(), sizes.rend());
    std::set<std::int64_t> skipped;
    for (std::int64_t token = 0; token < 40; ++token) {
      const float value = keep[row][token].item<float>();
      EXPECT_TRUE(value == 0 || value == 1);
      if (value == 0) skipped.insert(token);
    }
    EXPECT_EQ(skipped, (std::set<std::int64_t>{sizes[0].second, sizes[1].second, sizes[2].second}));
  }
  EXPECT_FALSE(token_weights(random_target(2, 3, 6), recipe, false).defined());  // else nothing were left
  EXPECT_FALSE(token_weights(random_target(0, 40, 6), recipe, true).defined());  // a process without sequences
}

TEST(TokensThatCount, BehindAPrefixOutliersThatAreLeftDoNot) {
  Recipe recipe = named_recipe("w4a4kv4-static");
  recipe.finetune.loss = TuningLoss::mse;
  const at::Tensor target = random_target(11, 40, 6);
  EXPECT_FALSE(token_weights(target, recipe, true).defined());
  target[9][17][2] = 5000;
  const at::Tensor keep = token_weights(target, recipe, true);
  EXPECT_EQ(keep.sum().item<float>(), 11 * 40 - 1);
  EXPECT_EQ(keep[9][17].item<float>(), 0);
  EXPECT_FALSE(token_weights(target, recipe, false).defined());
}

TEST(TokensThatCount, NormalizedIsTheErrorOverTheTargetsMeanSquare) {
  Recipe recipe = named_recipe("w4a4kv4-static");
  recipe.finetune.loss = TuningLoss::normalized;
  recipe.finetune.skip_mse = true;
  at::Tensor target = random_target(9, 20, 6);
  target[3][4].fill_(0);
  const at::Tensor weight = token_weights(target, recipe, false);
  for (std::int64_t row = 0; row < 9; ++row) {
    int skipped = 0;
    for (std::int64_t token = 0; token < 20; ++token) {
      double square = 0;
      for (std::int64_t channel = 0; channel < 6; ++channel)
        square += std::pow(target[row][token][channel].item<double>(), 2);
      const auto value = weight[row][token].item<double>();
      ASSERT_TRUE(std::isfinite(value));
      if (value == 0) {
        ++skipped;
      } else if (square > 0) {
        EXPECT_NEAR(value * square / 6, 1, 1e-6);
      }
    }
    EXPECT_EQ(skipped, 3);
  }
}

TEST_F(TuneBlock, NormalizedLossDoesNotDependOnATokensSize) {
  TuningSample sample(plain_start("w4a4kv4-static", {"finetune.loss=normalized", "finetune.epochs=1"}));
  sample.streams.weight = token_weights(sample.streams.target, sample.recipe, false);
  const double relative = tune_sample(sample).tuning.start_loss;
  EXPECT_GT(relative, 0);
  EXPECT_LT(relative, 1);  // the block's error is a share of what it computes
}

TEST_F(TuneBlock, TokensThatDoNotCountChangeNothing) {
  TuningSample sample(plain_start("w4a4kv4-static", {"finetune.skip_mse=true", "finetune.epochs=1"}));
  sample.streams.weight = token_weights(sample.streams.target, sample.recipe, false);
  const Result first = tune_sample(sample);
  EXPECT_TRUE(std::isfinite(first.tuning.end_loss));
  sample.streams.target =
      at::where(sample.streams.weight.unsqueeze(-1) == 0, at::full({}, 1e4F), sample.streams.target);
  const Result second = tune_sample(sample);
  EXPECT_EQ(first.tuning.start_loss, second.tuning.start_loss);
  EXPECT_EQ(first.tuning.end_loss, second.tuning.end_loss);
  expect_same_block(round_block(first.tuned, sample.recipe, 0), round_block(second.tuned, sample.recipe, 0));
  sample.streams.weight = at::Tensor();
  EXPECT_GT(tune_sample(sample).tuning.start_loss, 100 * first.tuning.start_loss);
}

}  // namespace
}  // namespace pq::quant
