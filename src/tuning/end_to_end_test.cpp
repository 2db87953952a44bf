#include "tuning/end_to_end.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <stdexcept>

#include "base/error.h"
#include "base/random.h"
#include "model/block_formats.h"
#include "model/format_override.h"
#include "model/spec_for_test.h"
#include "tuning/tuning_step.h"

namespace pq::quant {
namespace {

namespace fs = std::filesystem;

const auto floats = at::TensorOptions().dtype(at::kFloat);

/// A random model small enough to differentiate as one graph. Groups of 12 leave a short last group in every row.
struct TinyModel {
  explicit TinyModel(bool quantized_activations, bool prefixed, std::int64_t vocabulary = 61) {
    spec.block_count = 3;
    spec.vocab_size = vocabulary;
    spec.qkv_bias = true;
    recipe.weight = {3, false, ScaleMode::static_scale, Granularity::group, 12};
    if (quantized_activations) {
      recipe.activation = {4, true, ScaleMode::static_scale, Granularity::tensor, 0};
      recipe.kv = {4, false, ScaleMode::static_scale, Granularity::head, 0};
    }
    recipe.finetune.batch = 4;
    recipe.finetune.e2e_epochs = 3;
    recipe.finetune.e2e_rate = 1e-3;
    recipe.finetune.relative_rates = false;
    for (std::int64_t i = 0; i < spec.block_count; ++i) blocks.push_back(random_block());
    embedding = normal({spec.vocab_size, spec.hidden_size}, 1);
    context = nn::ModelContext(spec, online_rotations(spec, {}), 0, floats);
    model.context = &context;
    model.final_norm = normal({spec.hidden_size}, 0.2) + 1;
    model.lm_head = normal({spec.vocab_size, spec.hidden_size}, 0.3);
    model.embed = [this](const at::Tensor& tokens) { return at::embedding(embedding, tokens); };
    if (!prefixed) return;
    for (std::int64_t i = 0; i < spec.block_count; ++i) {
      model.prefix.push_back(
          {normal({1, 3, spec.kv_head_count, spec.head_dim}, 1), normal({1, 3, spec.kv_head_count, spec.head_dim}, 1)});
    }
  }
  TinyModel(const TinyModel&) = delete;
  TinyModel& operator=(const TinyModel&) = delete;

  at::Tensor normal(at::IntArrayRef shape, double deviation) {
    at::Tensor x = at::empty(shape, floats);
    for (std::int64_t i = 0; i < x.numel(); ++i)
      x.data_ptr<float>()[i] = static_cast<float>(random.normal() * deviation);
    return x;
  }
  at::Tensor sequences(std::int64_t count, std::int64_t length) {
    at::Tensor tokens = at::empty({count, length}, at::kLong);
    for (std::int64_t i = 0; i < tokens.numel(); ++i) {
      tokens.data_ptr<std::int64_t>()[i] =
          static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(spec.vocab_size)));
    }
    return tokens;
  }
  QuantizedBlock random_block() {
    QuantizedBlock block;
    for (const NormRow& norm : all_norms(spec)) block.norms[norm.id] = to_floats(normal({norm.size}, 0.2) + 1);
    for (const LinearId i : all_linears) {
      const LinearShape shape = linear_shape(spec, i);
      const at::Tensor weight = normal({shape.out_features, shape.in_features}, 0.3) + 0.1;
      const at::Tensor clip = at::ones({shape.out_features, recipe.weight.groups(shape.in_features)}, floats);
      block.linears[i] = pack_linear(quantize_weight(weight, clip, recipe.weight),
                                     shape.bias ? normal({shape.out_features}, 0.1) : at::Tensor(), recipe.weight);
    }
    for (const Site site : quantized_sites) {
      // Narrow enough that some values are clamped: no gradient passes there.
      if (is_kv(site)) {
        block.sites[site] = {{0.15F, 0.2F}, {7, 8}, {1, 1}};
      } else {
        block.sites[site] = {{0.2F}, {}, {1, 1}};
      }
    }
    return block;
  }

  void leave_in_16_bits(std::size_t block, LinearId id) {
    QuantizedLinear& linear = blocks[block].linears[id];
    const nn::Linear plain = unpack_linear(linear, linear_shape(spec, id), recipe.weight, floats);
    linear = half_linear(plain.weight, plain.bias);
    apply_setting(recipe, fmt::format("blocks.{}.linear.{}.weight.bits=16", block, linear_name(id)));
  }

  ModelSpec spec = small_spec(16, 32, 4, 2, 8);
  Recipe recipe;
  Random random{11, "tiny model"};
  std::vector<QuantizedBlock> blocks;
  at::Tensor embedding;
  nn::ModelContext context;
  EndToEndModel model;
};

struct Gradients {
  double loss = 0;
  std::vector<at::Tensor> scales;      // in the order of ScaleTuning::parameters()
  std::vector<at::Tensor> magnitudes;  // the sums that these are, over absolute values
};

at::Tensor column_groups(const TinyModel& tiny, std::int64_t columns) {
  return at::floor_divide(at::arange(columns, at::kLong), tiny.recipe.weight.group);
}

/// Straight through: nothing passes where the code was clamped.
at::Tensor straight_through(Site site, const SiteQuantizer& parameters, const QuantizerFormat& format,
                            const at::Tensor& x) {
  at::Tensor scale = from_floats(parameters.scale, {static_cast<std::int64_t>(parameters.scale.size())}, x.options());
  at::Tensor zero = at::zeros_like(scale);
  if (!format.symmetric)
    zero = from_floats({parameters.zero_point.begin(), parameters.zero_point.end()}, scale.sizes(), x.options());
  if (is_kv(site)) scale = scale.unsqueeze(-1), zero = zero.unsqueeze(-1);
  const double low = format.symmetric ? -8 : 0;
  const at::Tensor passing = at::minimum(at::maximum(x, (low - 0.5 - zero) * scale), (low + 15.5 - zero) * scale);
  const at::Tensor codes = ((x / scale).round() + zero).clamp(low, low + 15);
  return passing + ((codes - zero) * scale - passing).detach();
}

/// The whole model as one graph, weights written out column by column, `together` sequences at a time.
Gradients one_graph(const TinyModel& tiny, const at::Tensor& tokens, std::int64_t together, at::ScalarType type,
                    bool with_zero_points = true) {
  const at::AutoGradMode with_gradients(true);
  const auto options = floats.dtype(type);
  const nn::ModelContext contexts(tiny.spec, online_rotations(tiny.spec, {}), 3 + tokens.size(1), options);
  std::vector<at::Tensor> scales, weights, steps;
  std::vector<nn::Block> blocks;
  for (const QuantizedBlock& source : tiny.blocks) {
    nn::Block& block = blocks.emplace_back();
    for (const NormRow& norm : all_norms(tiny.spec)) {
      block.norms[norm.id] = from_floats(source.norms[norm.id], {norm.size}, options);
    }
    for (const LinearId i : all_linears) {
      const LinearShape shape = linear_shape(tiny.spec, i);
      if (source.linears[i].codes.empty()) {
        block.linears[i] = unpack_linear(source.linears[i], shape, QuantizerFormat{}, options);
        continue;
      }
      const WeightCodes codes = unpack_codes(source.linears[i], shape, tiny.recipe.weight, at::kCPU);
      const at::Tensor groups = column_groups(tiny, shape.in_features);
      at::Tensor scale = codes.scales.scale.to(type).clone();
      scale.set_requires_grad(true);
      const at::Tensor q = codes.codes.to(type);
      const at::Tensor step = q - codes.scales.zero_point.to(type).index_select(1, groups);
      const at::Tensor spread = scale.index_select(1, groups);
      at::Tensor weight = step * spread;
      // The broken variant: the same value, the derivative of q s.
      if (!with_zero_points) weight = step * spread.detach() + q * (spread - spread.detach());
      weight.retain_grad();
      scales.push_back(scale);
      weights.push_back(weight);
      steps.push_back(step);
      block.linears[i].weight = weight;
      if (shape.bias) block.linears[i].bias = from_floats(source.linears[i].bias, {shape.out_features}, options);
    }
  }
  Gradients result;
  const std::int64_t length = tokens.size(1);
  for (std::int64_t first = 0; first < tokens.size(0); first += together) {
    const at::Tensor part = tokens.narrow(0, first, std::min(together, tokens.size(0) - first));
    at::Tensor x = at::embedding(tiny.embedding.to(type), part);
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      nn::KeyValue prefix;
      if (!tiny.model.prefix.empty()) prefix = {tiny.model.prefix[i].key.to(type), tiny.model.prefix[i].value.to(type)};
      const nn::BlockContext context =
          contexts.block(static_cast<std::int64_t>(i), prefix.length() > 0 ? &prefix : nullptr);
      const nn::Tap tap = [&](Site site, const at::Tensor& value) {
        const SiteQuantizer* quantizer = tiny.blocks[i].sites.find(site);
        if (quantizer == nullptr || !block_formats(tiny.recipe, 0).site[site].enabled()) return value;
        return straight_through(site, *quantizer, block_formats(tiny.recipe, 0).site[site], value);
      };
      x = nn::forward(blocks[i], context, x, tap);
    }
    const at::Tensor logits = at::linear(nn::rms_norm(x, tiny.model.final_norm.to(type), tiny.spec.rms_norm_eps),
                                         tiny.model.lm_head.to(type));
    const at::Tensor chosen =
        at::log_softmax(logits, -1).narrow(1, 0, length - 1).gather(2, part.narrow(1, 1, length - 1).unsqueeze(-1));
    const at::Tensor loss = chosen.sum().neg() / static_cast<double>(tokens.size(0) * (length - 1));
    result.loss += loss.item<double>();
    loss.backward({}, true);
  }
  for (std::size_t i = 0; i < scales.size(); ++i) {
    result.scales.push_back(scales[i].grad());
    const at::Tensor groups = column_groups(tiny, steps[i].size(1));
    result.magnitudes.push_back(
        at::zeros_like(scales[i].detach()).index_add(1, groups, (weights[i].grad() * steps[i]).abs().detach()));
  }
  return result;
}

double furthest(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  EXPECT_EQ(a.size(), b.size());
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    worst = std::max(worst, (a[i].to(at::kDouble) - b[i].to(at::kDouble)).abs().max().item<double>());
  return worst;
}

Gradients tuned_gradients(const TinyModel& tiny, const at::Tensor& tokens) {
  const SequenceShards shards(tokens.size(0), 0, tokens.size(0), 0, 1);
  const TuningRun run{tiny.recipe, shards, Communicator::world(), nullptr};
  ScaleTuning scales(tiny.blocks, tiny.model, tokens, run, floats);
  SequenceShards::Batch batch{{}, tokens.size(0)};
  for (std::int64_t i = 0; i < tokens.size(0); ++i) batch.rows.push_back(i);
  Gradients result;
  result.loss = scales.gradients(batch);
  EXPECT_NEAR(scales.judge(), result.loss, 1e-6 * result.loss);
  for (const auto& parameter : scales.parameters()) result.scales.push_back(parameter.value.grad());
  return result;
}

TEST(EndToEnd, GradientsAreThoseOfOneGraphOverTheWholeModel) {
  for (const bool prefixed : {false, true}) {
    TinyModel tiny(false, prefixed);
    const at::Tensor tokens = tiny.sequences(4, 24);
    const Gradients tuned = tuned_gradients(tiny, tokens);
    const Gradients exact = one_graph(tiny, tokens, 4, at::kDouble);
    // What float32 costs the plain graph, it may cost another order of the same sums.
    const double bound = 4 * furthest(one_graph(tiny, tokens, 4, at::kFloat).scales, exact.scales);
    EXPECT_GT(bound, 0);
    EXPECT_NEAR(tuned.loss, exact.loss, 1e-6 * exact.loss);
    EXPECT_LE(furthest(tuned.scales, exact.scales), bound);
    EXPECT_GT(furthest(tuned.scales, one_graph(tiny, tokens, 4, at::kDouble, false).scales), 1000 * bound);
  }
}

TEST(EndToEnd, LayersOf16BitsHaveNoScales) {
  for (const std::size_t whole : {0U, 1U}) {
    TinyModel tiny(false, false);
    for (const LinearId id : all_linears) tiny.leave_in_16_bits(whole, id);
    tiny.leave_in_16_bits(2, LinearId::k);
    const at::Tensor tokens = tiny.sequences(4, 24);
    const Gradients tuned = tuned_gradients(tiny, tokens);
    const Gradients exact = one_graph(tiny, tokens, 4, at::kDouble);
    const double bound = 4 * furthest(one_graph(tiny, tokens, 4, at::kFloat).scales, exact.scales);
    ASSERT_EQ(tuned.scales.size(), 13U);
    EXPECT_NEAR(tuned.loss, exact.loss, 1e-6 * exact.loss);
    EXPECT_LE(furthest(tuned.scales, exact.scales), bound);

    std::vector<QuantizedBlock> blocks = tiny.blocks;
    const SequenceShards shards(4, 0, 4, 0, 1);
    const TuningRun run{tiny.recipe, shards, Communicator::world(), nullptr};
    tune_end_to_end(blocks, tiny.model, tokens, run, floats);
    EXPECT_EQ(blocks[whole].linears[LinearId::q].weight, tiny.blocks[whole].linears[LinearId::q].weight);
    EXPECT_TRUE(blocks[2].linears[LinearId::k].scales.empty());
    EXPECT_NE(blocks[2].linears[LinearId::down].scales, tiny.blocks[2].linears[LinearId::down].scales);
    EXPECT_EQ(blocks[2].linears[LinearId::down].scales.size(), tiny.blocks[2].linears[LinearId::down].scales.size());
  }
}

TEST(EndToEnd, PartsOfABatchAndSlicesOfLogitsAddUp) {
  TinyModel tiny(false, true, 13000);  // 1290 rows of logits in a slice
  const at::Tensor tokens = tiny.sequences(3, 700);
  ASSERT_GT(parts_of_batch({0, 1, 2}, 700, at::kCPU).size(), 1U);
  const Gradients tuned = tuned_gradients(tiny, tokens);
  const Gradients exact = one_graph(tiny, tokens, 1, at::kDouble);
  const double bound = 4 * furthest(one_graph(tiny, tokens, 1, at::kFloat).scales, exact.scales);
  EXPECT_NEAR(tuned.loss, exact.loss, 1e-6 * exact.loss);
  EXPECT_LE(furthest(tuned.scales, exact.scales), bound);
}

TEST(EndToEnd, GradientsPassStraightThroughActivationsAndCaches) {
  for (const bool prefixed : {false, true}) {
    TinyModel tiny(true, prefixed);
    const at::Tensor tokens = tiny.sequences(4, 24);
    const Gradients tuned = tuned_gradients(tiny, tokens);
    const Gradients graph = one_graph(tiny, tokens, 4, at::kFloat);
    EXPECT_NEAR(tuned.loss, graph.loss, 1e-6 * graph.loss);
    // The same roundings forward in both, so that no code flips: what differs is the order of sums, over the tokens in
    // a weight's gradient, then over the `group` weights of a scale.
    const double per_term =
        std::numeric_limits<float>::epsilon() * static_cast<double>(tiny.recipe.weight.group + tokens.numel());
    for (std::size_t i = 0; i < graph.scales.size(); ++i) {
      const at::Tensor excess = (tuned.scales[i] - graph.scales[i]).abs() - per_term * graph.magnitudes[i];
      EXPECT_LE(excess.max().item<double>(), 0) << i;
    }
  }
}

TEST(EndToEnd, BfloatStepsPointTheSameWay) {
  TinyModel tiny(false, true);
  const at::Tensor tokens = tiny.sequences(4, 24);
  const Gradients exact = tuned_gradients(tiny, tokens);
  tiny.recipe.finetune.compute = ComputeType::bf16;
  const SequenceShards shards(4, 0, 4, 0, 1);
  const TuningRun run{tiny.recipe, shards, Communicator::world(), nullptr};
  ScaleTuning scales(tiny.blocks, tiny.model, tokens, run, floats);
  EXPECT_NEAR(scales.gradients({{0, 1, 2, 3}, 4}), exact.loss, 0.02 * exact.loss);
  double product = 0, squares = 0, exact_squares = 0;
  for (std::size_t i = 0; i < exact.scales.size(); ++i) {
    ASSERT_EQ(scales.parameters()[i].value.scalar_type(), at::kFloat);
    const at::Tensor& gradient = scales.parameters()[i].value.grad();
    product += (gradient * exact.scales[i]).sum().item<double>();
    squares += gradient.square().sum().item<double>();
    exact_squares += exact.scales[i].square().sum().item<double>();
  }
  EXPECT_GT(product / std::sqrt(squares * exact_squares), 0.99);
}

TEST(EndToEnd, ScalesStayPositive) {
  TinyModel tiny(false, false);
  const at::Tensor tokens = tiny.sequences(4, 8);
  const SequenceShards shards(4, 0, 4, 0, 1);
  ScaleTuning scales(tiny.blocks, tiny.model, tokens, {tiny.recipe, shards, Communicator::world(), nullptr}, floats);
  at::Tensor scale = scales.parameters()[0].value.detach();
  const at::Tensor start = scale.clone();
  scale.neg_();
  scales.keep_in_range();
  EXPECT_TRUE(at::equal(scale, start * smallest_scale_share));
  scales.restore();
  EXPECT_TRUE(at::equal(scale, start));
}

TEST(EndToEnd, LearningRatesAreRelativeToTheScalesWhereTheRecipeSaysSo) {
  TinyModel tiny(false, false);
  const at::Tensor tokens = tiny.sequences(4, 8);
  const SequenceShards shards(4, 0, 4, 0, 1);
  const TuningRun run{tiny.recipe, shards, Communicator::world(), nullptr};
  EXPECT_EQ(ScaleTuning(tiny.blocks, tiny.model, tokens, run, floats).parameters()[0].rate, 1e-3);
  tiny.recipe.finetune.relative_rates = true;
  const ScaleTuning relative(tiny.blocks, tiny.model, tokens, run, floats);
  const Parameter& scale = relative.parameters()[0];
  EXPECT_NEAR(scale.rate, 1e-3 * scale.value.mean().item<double>() / 0.01, 1e-9);
}

TEST(EndToEnd, WhatDoesNotBelongTogetherIsRefused) {
  TinyModel tiny(false, false);
  const SequenceShards shards(4, 0, 4, 0, 1);
  const TuningRun run{tiny.recipe, shards, Communicator::world(), nullptr};
  EXPECT_THROW(ScaleTuning(tiny.blocks, tiny.model, tiny.sequences(3, 8), run, floats), InputError);
  EXPECT_THROW(ScaleTuning(tiny.blocks, tiny.model, tiny.sequences(4, 1), run, floats), InputError);
  tiny.blocks.pop_back();
  EXPECT_THROW(ScaleTuning(tiny.blocks, tiny.model, tiny.sequences(4, 8), run, floats), InputError);
}

std::vector<float> all_scales(const std::vector<QuantizedBlock>& blocks) {
  std::vector<float> result;
  for (const QuantizedBlock& block : blocks) {
    for (const QuantizedLinear& linear : block.linears)
      result.insert(result.end(), linear.scales.begin(), linear.scales.end());
  }
  return result;
}

TEST(EndToEnd, GoesOnAfterAnInterruptionAsIfThereHadBeenNone) {
  TinyModel tiny(true, true);
  const at::Tensor tokens = tiny.sequences(8, 16);
  const SequenceShards shards(8, 0, 4, 0, 1);
  const std::vector<QuantizedBlock> start = tiny.blocks;
  tune_end_to_end(tiny.blocks, tiny.model, tokens, {tiny.recipe, shards, Communicator::world(), nullptr}, floats);
  const std::vector<float> expected = all_scales(tiny.blocks);
  EXPECT_NE(expected, all_scales(start));

  const fs::path directory = fs::path(testing::TempDir()) / "pq_e2e_journal";
  fs::remove_all(directory);
  int calls = 0;
  int last_call = 6;  // judged before and after the first epoch, its two steps, one of the second epoch, and so far
  tiny.model.embed = [&](const at::Tensor& part) {
    if (++calls == last_call) throw std::runtime_error("stopped");
    return at::embedding(tiny.embedding, part);
  };
  const auto run = [&] {
    tiny.blocks = start;
    io::ResumeJournal journal(directory, Json::object(), tiny.spec, tiny.recipe, online_rotations(tiny.spec, {}));
    return tune_end_to_end(tiny.blocks, tiny.model, tokens, {tiny.recipe, shards, Communicator::world(), &journal},
                           floats);
  };
  EXPECT_THROW(run(), std::runtime_error);
  EXPECT_EQ(all_scales(tiny.blocks), all_scales(start));
  calls = 0;
  last_call = 0;
  EXPECT_EQ(run().epochs.size(), 3U);
  EXPECT_EQ(calls, 6);  // the second and the third epoch
  EXPECT_EQ(all_scales(tiny.blocks), expected);
  calls = 0;
  run();
  EXPECT_EQ(calls, 0);  // all was done
  EXPECT_EQ(all_scales(tiny.blocks), expected);
}

}  // namespace
}  // namespace pq::quant
