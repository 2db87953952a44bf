#include "pipeline/plan.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "base/stopwatch.h"
#include "model/block_formats.h"
#include "pipeline/calibration.h"
#include "pipeline/prefix.h"
#include "quant/block_start.h"

namespace pq::quant {
namespace {

// A step's seconds over those of its products at the measured rate, as SmolLM2-135M took them.
constexpr double forward_overhead = 1.4;
constexpr double rounded_overhead = 0.75;
constexpr double search_overhead = 2.8;
constexpr double tuning_overhead = 1.3;
constexpr double sampling_overhead = 4;

double block_flops(const ModelSpec& spec, double tokens, double length) {
  const double attention = 2 * length * static_cast<double>(spec.head_count * spec.head_dim);  // half of all scores
  return tokens * (2 * static_cast<double>(block_parameters(spec)) + attention);
}

/// X^T X of every input, by its upper half, and GPTQ: Cholesky factors and the updates behind each column.
double rounding_flops(const ModelSpec& spec, double tokens) {
  double flops = 0;
  for (const LinearId id : all_linears) {
    const LinearShape shape = linear_shape(spec, id);
    const auto in = static_cast<double>(shape.in_features);
    flops += static_cast<double>(shape.out_features) * in * in;
    if (readers_of(input_site(id)).front() == id) flops += tokens * in * in + 4.0 / 3 * in * in * in;
  }
  return flops;
}

}  // namespace

double measured_flops(const ModelSpec& spec) {
  const at::Tensor x = at::ones({1024, spec.hidden_size});
  const at::Tensor weight = at::ones({spec.intermediate_size, spec.hidden_size});
  const auto once = 2.0 * 1024 * static_cast<double>(spec.hidden_size * spec.intermediate_size);
  at::linear(x, weight);  // starts the threads
  const Stopwatch stopwatch;
  double done = 0;
  do {
    at::linear(x, weight);
    done += once;
  } while (stopwatch.seconds() < 0.2);
  return done / stopwatch.seconds();
}

Plan make_plan(const ModelSpec& spec, const Recipe& resolved, double flops, bool rounded) {
  Plan plan;
  const auto blocks = static_cast<double>(spec.block_count);
  const auto step = [&](std::string name, double work, double overhead) {
    if (work <= 0) return;
    plan.steps.push_back({std::move(name), work, work * overhead / flops});
    plan.seconds += plan.steps.back().seconds;
  };
  const auto forward = [&](SequenceShape shape) {
    return blocks *
           block_flops(spec, static_cast<double>(shape.samples * shape.length), static_cast<double>(shape.length));
  };
  const SequenceShape detection =
      fit_to_context(resolved.calibration.samples, resolved.calibration.length, spec.max_positions);
  const SequenceShape search = search_shape(resolved, spec.max_positions);
  const SequenceShape tuning = tuning_shape(resolved, spec.max_positions);
  if (resolved.calibration.source == "self") {
    step("sampling calibration text", forward(detection) + forward(search) + forward(tuning), sampling_overhead);
  }
  if (needs_outliers(resolved.prefix)) {
    step("finding the prefix", forward(detection), rounded ? rounded_overhead : forward_overhead);
  }
  const auto tokens = static_cast<double>(search.samples * search.length);
  if (searches_in_one_walk(resolved)) {
    const double rounding = quantizes_weights(resolved) ? blocks * rounding_flops(spec, tokens) : 0;
    step("search and GPTQ", forward(search) + rounding, search_overhead);
  } else if (needs_search(resolved)) {
    step("ranges", forward(detection), forward_overhead);
    step("exhaustive search and GPTQ", 60 * forward(search), forward_overhead);
  }
  const double trained = static_cast<double>(resolved.finetune.epochs) * forward(tuning);
  step("fine-tuning", 3 * trained, tuning_overhead);
  if (resolved.finetune.e2e_epochs > 0) {
    step("fine-tuning end to end", 4 * static_cast<double>(resolved.finetune.e2e_epochs) * forward(tuning),
         tuning_overhead);
  }

  // Streams, the block three times (as loaded, compensated, rounded), what a walk holds between its stages, X^T X
  // thrice.
  const auto hidden = static_cast<double>(spec.hidden_size);
  const auto widest = static_cast<double>(std::max(spec.intermediate_size, spec.hidden_size));
  const double held = std::min(tokens * (2 * hidden + widest) * 4, 2.2e9);
  const double streams = (tokens + 2 * static_cast<double>(tuning.samples * tuning.length)) * hidden * 4;
  plan.private_bytes =
      3e8 + streams + held + 3 * 4 * static_cast<double>(block_parameters(spec)) + 12 * widest * widest;
  return plan;
}

std::string recipe_in_words(const Recipe& recipe) {
  std::vector<std::string> words{precision_name(recipe)};
  if (quantizes_activations(recipe))
    words.emplace_back(recipe.activation.is_static() ? "static scales" : "dynamic scales");
  words.emplace_back(recipe.rotate.any() ? "rotated" : "not rotated");
  if (recipe.prefix.tokens == "none") {
    words.emplace_back("no prefix");
  } else {
    words.push_back(recipe.prefix.tokens == "auto" ? "prefix found in the calibration text"
                                                   : fmt::format("prefix {}", recipe.prefix.tokens));
  }
  if (needs_search(recipe))
    words.emplace_back(recipe.search.gptq && quantizes_weights(recipe) ? "search and GPTQ" : "search");
  if (recipe.finetune.epochs > 0) words.push_back(fmt::format("{} epochs of fine-tuning", recipe.finetune.epochs));
  if (recipe.finetune.e2e_epochs > 0) words.push_back(fmt::format("{} epochs end to end", recipe.finetune.e2e_epochs));
  return fmt::format("{}", fmt::join(words, ", "));
}

Json plan_to_json(const Plan& plan) {
  Json steps = Json::array();
  for (const PlannedStep& step : plan.steps) {
    steps.push_back({{"name", step.name}, {"flops", step.flops}, {"seconds", step.seconds}});
  }
  return {{"steps", std::move(steps)}, {"seconds", plan.seconds}, {"peak_private_memory_bytes", plan.private_bytes}};
}

}  // namespace pq::quant
