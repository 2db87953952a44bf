#include "tuning/tuning_loop.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "base/error.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/stopwatch.h"
#include "tuning/adamw.h"
#include "tuning/exchange.h"

namespace pq::quant {
namespace {

class TuningLoop {
 public:
  TuningLoop(Tunable& tunable, const TuningPlan& plan, const TuningRun& run)
      : tunable_(tunable), plan_(plan), run_(run), optimizer_(values()) {}

  Tuning run() {
    if (!load()) {
      tuning_.start_loss = tunable_.judge();
      log_info("{}: loss {:.4g} before training", plan_.name, tuning_.start_loss);
    }
    Progress progress(plan_.name, static_cast<std::size_t>(plan_.epochs * run_.shards.steps()));
    progress.advance(tuning_.epochs.size() * static_cast<std::size_t>(run_.shards.steps()), "");
    while (static_cast<std::int64_t>(tuning_.epochs.size()) < plan_.epochs) {
      const Stopwatch stopwatch;
      const std::optional<EpochLoss> losses = tune_epoch(progress);
      if (!losses) {
        start_again();
        continue;
      }
      tuning_.epochs.push_back(*losses);
      tuning_.seconds += stopwatch.seconds();
      log_info("{}, epoch {}: loss {:.4g} training, {:.4g} validation", plan_.name, tuning_.epochs.size(),
               losses->tuning, losses->validation);
      save();
    }
    tuning_.end_loss = tuning_.epochs.empty() ? tuning_.start_loss : tuning_.epochs.back().validation;
    // Written so that a loss that is not a number counts as worse.
    tuning_.kept_start = !(tuning_.end_loss <= tuning_.start_loss);
    if (tuning_.kept_start) {
      log_warning("{}: its loss went from {:.4g} to {:.4g}; it keeps its start values", plan_.name, tuning_.start_loss,
                  tuning_.end_loss);
      tuning_.end_loss = tuning_.start_loss;
      tunable_.restore();
    }
    return tuning_;
  }

 private:
  std::vector<at::Tensor> values() const {
    std::vector<at::Tensor> tensors;
    for (const auto& parameter : tunable_.parameters()) tensors.push_back(parameter.value);
    return tensors;
  }

  /// The losses of an epoch; nothing when one was not finite.
  std::optional<EpochLoss> tune_epoch(Progress& progress) {
    const auto epoch = static_cast<std::int64_t>(tuning_.epochs.size());
    const std::int64_t steps = run_.shards.steps();
    const auto batches = run_.shards.batches(run_.recipe.seed, plan_.stream, epoch);
    double sum = 0;
    for (std::int64_t step = 0; step < steps; ++step) {
      const double loss = tunable_.gradients(batches[static_cast<std::size_t>(step)]);
      if (!std::isfinite(loss)) {
        failed_step_ = fmt::format("{}, epoch {}, step {}", plan_.name, epoch + 1, step + 1);
        return std::nullopt;
      }
      sum += loss;
      if (run_.recipe.finetune.clip_gradient > 0) clip_gradients(values(), run_.recipe.finetune.clip_gradient);
      optimizer_.step(rates(epoch * steps + step, plan_.epochs * steps));
      tunable_.keep_in_range();
      drop_gradients();
      progress.advance(1, fmt::format("epoch {} of {}", epoch + 1, plan_.epochs));
    }
    const EpochLoss losses{sum / static_cast<double>(steps), tunable_.judge()};
    if (!std::isfinite(losses.validation)) {
      failed_step_ = fmt::format("{}, epoch {}, validation", plan_.name, epoch + 1);
      return std::nullopt;
    }
    return losses;
  }

  void drop_gradients() const {
    for (const at::Tensor& value : values()) value.mutable_grad() = at::Tensor();
  }

  std::vector<double> rates(std::int64_t step, std::int64_t total) const {
    const double factor = tuning_.halved ? 0.5 : 1.0;
    std::vector<double> result;
    for (const auto& parameter : tunable_.parameters()) {
      result.push_back(cosine_rate(parameter.rate * factor, step, total));
    }
    return result;
  }

  void start_again() {
    if (tuning_.halved) {
      throw InputError(failed_step_, "the loss is not finite, at half the learning rate too",
                       fmt::format("the work before it is kept; begin anew with smaller --set {}, or --set "
                                   "finetune.clip_gradient=1",
                                   plan_.rates));
    }
    log_warning("{}: the loss is not finite; it is restored and trained again at half the learning rate", failed_step_);
    tuning_.halved = true;
    tuning_.epochs.clear();
    tunable_.restore();
    drop_gradients();  // the failed step's, which nothing would make finite again
    optimizer_ = AdamW(values());
  }

  void save() {
    if (run_.journal == nullptr) return;
    io::TuningState state;
    state.notes = tuning_to_json(tuning_);
    state.notes["optimizer_steps"] = optimizer_.steps();
    const auto add = [&](const std::string& name, const at::Tensor& tensor) {
      state.tensors.push_back({name, tensor.sizes().vec(), to_floats(tensor.detach())});
    };
    for (std::size_t i = 0; i < tunable_.parameters().size(); ++i) {
      const auto& parameter = tunable_.parameters()[i];
      add(parameter.name, parameter.value);
      add(parameter.name + ".first_moment", optimizer_.moments()[i].first);
      add(parameter.name + ".second_moment", optimizer_.moments()[i].second);
    }
    run_.journal->save_state(plan_.phase, state);
  }

  /// Goes on from the last epoch that was saved; false when there is none.
  bool load() {
    std::optional<io::TuningState> state;
    if (run_.journal != nullptr) state = run_.journal->state(plan_.phase);
    const Json notes = broadcast(run_.processes, state ? state->notes : Json());
    if (notes.is_null()) return false;
    const at::NoGradGuard no_grad;
    std::size_t next = 0;
    const auto take = [&](const std::string& name, const at::Tensor& into) {
      if (state) {
        const bool fits = next < state->tensors.size() && state->tensors[next].name == name &&
                          state->tensors[next].shape == into.sizes().vec();
        if (!fits) {
          throw FormatError(run_.journal->directory().string(),
                            fmt::format("the saved training holds no tensor '{}' that fits", name),
                            "begin anew with --restart");
        }
        into.copy_(from_floats(state->tensors[next].values, into.sizes(), into.options()));
        ++next;
      }
      broadcast(run_.processes, into);
    };
    for (std::size_t i = 0; i < tunable_.parameters().size(); ++i) {
      const auto& parameter = tunable_.parameters()[i];
      take(parameter.name, parameter.value.detach());
      take(parameter.name + ".first_moment", optimizer_.moments()[i].first);
      take(parameter.name + ".second_moment", optimizer_.moments()[i].second);
    }
    tuning_ = tuning_from_json(notes);
    optimizer_.set_steps(notes.at("optimizer_steps").get<std::int64_t>());
    log_info("{}: goes on after epoch {}", plan_.name, tuning_.epochs.size());
    return true;
  }

  Tunable& tunable_;
  const TuningPlan& plan_;
  const TuningRun& run_;
  AdamW optimizer_;
  Tuning tuning_;
  std::string failed_step_;
};

}  // namespace

Json tuning_to_json(const Tuning& tuning) {
  Json epochs = Json::array();
  for (const EpochLoss& epoch : tuning.epochs) {
    epochs.push_back({{"training_loss", epoch.tuning}, {"validation_loss", epoch.validation}});
  }
  return {{"start_loss", tuning.start_loss}, {"end_loss", tuning.end_loss}, {"epochs", std::move(epochs)},
          {"kept_start", tuning.kept_start}, {"halved", tuning.halved},     {"seconds", tuning.seconds}};
}

Tuning tuning_from_json(const Json& json) {
  // What is not finite was written as null.
  const auto number = [](const Json& value) {
    return value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN();
  };
  Tuning tuning;
  tuning.start_loss = number(json.at("start_loss"));
  tuning.end_loss = number(json.at("end_loss"));
  for (const Json& epoch : json.at("epochs")) {
    tuning.epochs.push_back({number(epoch.at("training_loss")), number(epoch.at("validation_loss"))});
  }
  tuning.kept_start = json.at("kept_start").get<bool>();
  tuning.halved = json.at("halved").get<bool>();
  tuning.seconds = number(json.at("seconds"));
  return tuning;
}

Tuning tune(Tunable& tunable, const TuningPlan& plan, const TuningRun& run) {
  return TuningLoop(tunable, plan, run).run();
}

}  // namespace pq::quant
