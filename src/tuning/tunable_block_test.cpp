#include "tuning/tunable_block.h"

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <set>
#include <utility>

#include "tuning/tuning_sample_for_test.h"

namespace pq::quant {
namespace {

struct Case {
  std::string name;
  std::vector<std::string> settings;
};

/// Every built-in recipe, and formats beside them: zero points everywhere, groups that do not divide, one dynamic scale
/// a tensor, K and V a token, no quantizer at all.
std::vector<Case> cases() {
  std::vector<Case> result;
  for (const std::string& name : recipe_names()) result.push_back({name, {}});
  result.push_back({"w4a8kv4-static",
                    {"weight.symmetric=false", "weight.granularity=group", "weight.group=96", "weight.bits=3",
                     "activation.symmetric=false", "kv.symmetric=false"}});
  result.push_back({"w4a4kv4-dynamic",
                    {"activation.granularity=tensor", "kv.granularity=token", "weight.symmetric=false",
                     "activation.symmetric=false"}});
  result.push_back({"w4a4kv4-dynamic",
                    {"activation.granularity=group", "activation.group=100", "kv.group=48", "kv.symmetric=false",
                     "weight.granularity=group", "weight.group=4096"}});
  result.push_back({"w4a4kv4-static", {"weight.bits=16"}});
  result.push_back({"w4a4kv4-static", {"weight.bits=16", "activation.bits=16", "kv.bits=16"}});
  result.push_back({"w4a4kv4-static", {"search.gptq=false", "search.weight=false", "search.kv=false"}});
  return result;
}

void for_each_case(const std::function<void(const TuningSample&)>& body) {
  for (const Case& one : cases()) {
    std::string trace = one.name;
    for (const std::string& setting : one.settings) trace += ", " + setting;
    SCOPED_TRACE(trace);
    body(TuningSample(quick_recipe(one.name, one.settings)));
  }
}

TEST(TunableBlock, IsTheBlockOfTheCheckpointBitForBit) {
  const at::NoGradGuard no_grad;
  for_each_case([](const TuningSample& sample) {
    const QuantizedBlock rounded = round_block(sample.start, sample.recipe, 0);
    const nn::Block restored = restore_block(rounded, sample.spec(), sample.recipe, 0, sample.options);
    const TunableBlock tunable(sample.start, sample.recipe, 0, at::kFloat, sample.options);
    const QuantizedWeights weights = tunable.quantized_weights();
    for (const LinearId i : all_linears) {
      const at::Tensor& ours = weights.block.linears[i].weight;
      // What is not quantized is rounded to binary16 in the end, not at every step.
      EXPECT_TRUE(at::equal(sample.recipe.weight.enabled() ? ours : ours.to(at::kHalf).to(at::kFloat),
                            restored.linears[i].weight))
          << tensor_names::linear_in_block(i);
    }
    const at::Tensor ours = nn::forward(restored, sample.context, sample.streams.input, tunable.tap());
    const nn::Tap tap = restore_tap(rounded, sample.recipe, 0, sample.options);
    EXPECT_TRUE(at::equal(ours, nn::forward(restored, sample.context, sample.streams.input, tap)));
    EXPECT_EQ(static_cast<bool>(tunable.tap()), static_cast<bool>(tap));
    if (tap) {
      EXPECT_FALSE(at::equal(ours, nn::forward(restored, sample.context, sample.streams.input)));
    }
    expect_same_block(round_block(tunable.tuned(), sample.recipe, 0), rounded);
  });
}

TEST(TunableBlock, GradientsReachWhatIsTunedAndNothingElse) {
  for_each_case([](const TuningSample& sample) {
    for (const auto& [weight_rate, quantizer_rate] : {std::pair{1e-5, 1e-4}, {0.0, 1e-4}, {1e-5, 0.0}, {0.0, 0.0}}) {
      Recipe recipe = sample.recipe;
      recipe.finetune.weight_rate = weight_rate;
      recipe.finetune.quantizer_rate = quantizer_rate;
      const TunableBlock tunable(sample.start, recipe, 0, at::kFloat, sample.options);
      const TuningRun run{recipe, sample.shards, Communicator::world()};
      TuningStep step(sample.place(), sample.streams, run);
      EXPECT_GT(step.gradients(tunable, sample.shards.batches(0, 0, 0)[0]), 0);
      std::set<std::string> names;
      for (const auto& parameter : tunable.parameters()) {
        EXPECT_TRUE(names.insert(parameter.name).second) << parameter.name;
        EXPECT_EQ(parameter.value.scalar_type(), at::kFloat);
        const bool weight = parameter.name.find(".weight") != std::string::npos;
        EXPECT_EQ(parameter.rate > 0, (weight ? weight_rate : quantizer_rate) > 0) << parameter.name;
        const at::Tensor& gradient = parameter.value.grad();
        ASSERT_EQ(gradient.defined(), parameter.rate > 0) << parameter.name;
        if (!gradient.defined()) continue;
        EXPECT_TRUE(at::isfinite(gradient).all().item<bool>()) << parameter.name;
        // Zero points learn only from what was clamped, which may be nothing.
        if (parameter.name.find("zero_point") == std::string::npos) {
          EXPECT_TRUE(gradient.ne(0).any().item<bool>()) << parameter.name;
        }
      }
      // 7 weights, a scale (and zero point) each; 4 inputs, K and V, with one or two parameters.
      const auto of = [](const QuantizerFormat& format) {
        return static_cast<std::size_t>(format.enabled() ? (format.symmetric ? 1 : 2) : 0);
      };
      EXPECT_EQ(names.size(), 7 * (1 + of(recipe.weight)) + 4 * of(recipe.activation) + 2 * of(recipe.kv));
      EXPECT_EQ(tunable.site_parameters().size(), 4 * of(recipe.activation) + 2 * of(recipe.kv));
    }
  });
}

TEST(TunableBlock, RatesAreThoseOfTheRecipeOrGrowWithTheScales) {
  const TuningSample sample(quick_recipe(
      "w4a4kv4-static", {"weight.symmetric=false", "finetune.weight_rate=0.0002", "finetune.quantizer_rate=0.002"}));
  for (const bool relative : {false, true}) {
    Recipe recipe = sample.recipe;
    recipe.finetune.relative_rates = relative;
    const TunableBlock block(sample.start, recipe, 0, at::kFloat, sample.options);
    std::map<std::string, const Parameter*> named;
    for (const auto& parameter : block.parameters()) named[parameter.name] = &parameter;
    for (const auto& [name, parameter] : named) {
      const auto ends_with = [&text = name](const std::string& end) {
        return text.size() > end.size() && text.substr(text.size() - end.size()) == end;
      };
      const bool weight = ends_with(".weight");
      double expected = weight ? 0.0002 : 0.002;
      if (relative) {
        // A change of that size, in steps of the scale that it is measured by: its own, the weight's, 1.
        double unit = 1;
        if (ends_with(".scale") || ends_with(".scales")) unit = parameter->value.mean().item<double>();
        if (weight) unit = named.at(name.substr(0, name.size() - 6) + "scales")->value.mean().item<double>();
        expected *= unit / 0.01;
      }
      EXPECT_NEAR(parameter->rate, expected, 1e-6 * expected) << name;
    }
  }
}

std::vector<at::Tensor> gradients_of(const TunableBlock& block) {
  std::vector<at::Tensor> result;
  for (const auto& parameter : block.parameters()) {
    result.push_back(parameter.value.grad().clone());
    parameter.value.mutable_grad() = at::Tensor();
  }
  return result;
}

/// Largest distance of two gradients of the same parameter, as a share of the second's norm.
double distance(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double norm = b[i].norm().item<double>();
    if (norm > 0) worst = std::max(worst, (a[i] - b[i]).norm().item<double>() / norm);
  }
  return worst;
}

/// Autograd through the whole batch at once, the weights' quantizers part of the same graph.
double plain_gradients(const TuningSample& sample, const TunableBlock& block, const std::vector<std::int64_t>& rows) {
  const at::AutoGradMode with_gradients(true);
  const QuantizedWeights weights = block.quantized_weights();
  nn::Block attached = weights.block;
  for (const LinearId i : all_linears) attached.linears[i].weight = weights.before[i];
  const at::Tensor index = at::tensor(at::ArrayRef<std::int64_t>(rows));
  const at::Tensor output =
      nn::forward(attached, sample.context, sample.streams.input.index_select(0, index), block.tap());
  const at::Tensor loss = (output - sample.streams.target.index_select(0, index)).square().mean();
  loss.backward();
  return loss.item<double>();
}

TEST(TuningStep, GradientsInPartsAreThoseOfTheWholeBatch) {
  // 8 sequences of 400 tokens do not go through at once.
  for (const char* name : {"w4a4kv4-static", "w4a8kv4-dynamic", "w2a16g128"}) {
    SCOPED_TRACE(name);
    const TuningSample sample(quick_recipe(name, {"finetune.length=400", "finetune.batch=8", "finetune.samples=8",
                                                  "finetune.validation=1", "kv.symmetric=false"}));
    const TunableBlock block(sample.start, sample.recipe, 0, at::kFloat, sample.options);
    const TuningRun run = sample.run();
    TuningStep step(sample.place(), sample.streams, run);
    const SequenceShards::Batch batch = sample.shards.batches(0, 0, 0)[0];
    ASSERT_EQ(batch.rows.size(), 8U);
    const double loss = step.gradients(block, batch);
    const auto ours = gradients_of(block);
    const double expected_loss = plain_gradients(sample, block, batch.rows);
    const auto expected = gradients_of(block);
    EXPECT_NEAR(loss, expected_loss, 1e-4 * expected_loss);
    // Sums in another order: 2^-24 times the terms' number at worst. A code at the edge may fall to the other side in a
    // product of another size, which moves one gradient of thousands; how many do depends on the processor's products,
    // and a dynamic clip factor, one number that all codes pull at, moves by up to 2% with them.
    EXPECT_LT(distance(ours, expected), 5e-2);
    // Were a part left out, or counted as a whole batch, it would show.
    plain_gradients(sample, block, {batch.rows.begin(), batch.rows.begin() + 5});
    EXPECT_GT(distance(gradients_of(block), expected), 0.1);
  }
}

TEST(TuningStep, FiniteDifferencesAgreeWhereNothingIsRounded) {
  for (const char* target : {"finetune.target=full-precision", "finetune.target=quantized", "finetune.target=both"}) {
    SCOPED_TRACE(target);
    TuningSample sample(quick_recipe("w4a4kv4-static", {"weight.bits=16", "activation.bits=16", "kv.bits=16", target}));
    for (nn::Linear& linear : sample.start.block.linears) linear.weight = linear.weight * 0.9;  // else: no loss
    sample.streams.weight = at::ones({20, 48});
    sample.streams.weight[2][5] = 0;
    sample.streams.weight[7][0] = 0;
    const TunableBlock block(sample.start, sample.recipe, 0, at::kFloat, sample.options);
    const TuningRun run = sample.run();
    TuningStep step(sample.place(), sample.streams, run);
    const SequenceShards::Batch batch = sample.shards.batches(0, 0, 0)[0];
    step.gradients(block, batch);
    const auto gradients = gradients_of(block);
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      // Along the gradient itself, by a thousandth of the weight's norm.
      const at::Tensor& value = block.parameters()[i].value;
      const at::Tensor before = value.detach().clone();
      const double norm = gradients[i].norm().item<double>();
      const double distance_moved = 1e-3 * before.norm().item<double>();
      const at::Tensor move = gradients[i] * (distance_moved / norm);
      const auto loss_at = [&](double sign) {
        {
          const at::NoGradGuard no_grad;
          value.copy_(before + move * sign);
        }
        const double loss = step.gradients(block, batch);
        gradients_of(block);
        return loss;
      };
      const double slope = (loss_at(1) - loss_at(-1)) / (2 * distance_moved);
      {
        const at::NoGradGuard no_grad;
        value.copy_(before);
      }
      EXPECT_NEAR(slope, norm, 0.01 * norm) << block.parameters()[i].name;
    }
  }
}

TEST(TunableBlock, AStepCannotTakeAScaleOrAZeroPointOutOfRange) {
  const at::NoGradGuard no_grad;
  for (const char* mode : {"w4a4kv4-static", "w4a4kv4-dynamic"}) {
    const TuningSample sample(
        quick_recipe(mode, {"weight.symmetric=false", "activation.symmetric=false", "kv.symmetric=false"}));
    TunableBlock block(sample.start, sample.recipe, 0, at::kFloat, sample.options);
    const TunableBlock untouched(sample.start, sample.recipe, 0, at::kFloat, sample.options);
    block.keep_in_range();
    for (std::size_t i = 0; i < block.parameters().size(); ++i) {
      EXPECT_TRUE(at::equal(block.parameters()[i].value, untouched.parameters()[i].value));
    }
    for (const double sign : {1.0, -1.0}) {
      for (const auto& parameter : block.parameters()) parameter.value.fill_(1e9 * sign);
      block.keep_in_range();
      for (std::size_t i = 0; i < block.parameters().size(); ++i) {
        const std::string& name = block.parameters()[i].name;
        const at::Tensor& value = block.parameters()[i].value;
        const at::Tensor& start = untouched.parameters()[i].value;
        if (name.find("zero_point") != std::string::npos) {
          EXPECT_TRUE(value.eq(32767 * sign).all().item<bool>()) << name;
        } else if (sign > 0 || name.find(".weight") != std::string::npos) {
          EXPECT_TRUE(value.eq(1e9 * sign).all().item<bool>()) << name;
        } else {
          EXPECT_TRUE(at::allclose(value, start * 0.01)) << name;
        }
      }
      // Whatever the step did, it rounds to a block that a checkpoint can hold.
      const QuantizedBlock rounded = round_block(block.tuned(), sample.recipe, 0);
      for (const QuantizedLinear& linear : rounded.linears) {
        for (const float scale : linear.scales) EXPECT_GT(scale, 0);
      }
    }
    block.copy_values(untouched);
    expect_same_block(round_block(block.tuned(), sample.recipe, 0), round_block(sample.start, sample.recipe, 0));
  }
}

}  // namespace
}  // namespace pq::quant
