#include "quant/grid_search.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "model/spec_for_test.h"
#include "nn/block_for_test.h"
#include "nn/model_context.h"
#include "quant/weight_clip.h"

namespace pq::quant {
namespace {

TEST(Grids, AreThoseOfTheMethod) {
  EXPECT_EQ(grids::static_coarse().size(), 8U);
  EXPECT_DOUBLE_EQ(grids::static_coarse().front(), 0.25);
  EXPECT_NEAR(grids::static_coarse().back(), 0.95, 1e-12);
  const auto fine = grids::static_fine(0.45);
  EXPECT_EQ(fine.size(), 10U);
  EXPECT_NEAR(fine.front(), 0.40, 1e-12);
  EXPECT_NEAR(fine.back(), 0.50, 1e-12);
  EXPECT_EQ(grids::dynamic_clip().size(), 9U);
  SearchSettings settings;
  settings.weight_step = 0.05;
  settings.weight_min = 0.55;
  EXPECT_EQ(grids::weight_clip(settings).size(), 10U);
  EXPECT_NEAR(grids::weight_clip(settings).back(), 0.55, 1e-12);
}

/// A block with random parameters, an input, and a prefix.
class GridSearchTest : public testing::Test {
 protected:
  void SetUp() override {
    at::manual_seed(11);
    block = nn::random_block(spec, at::kFloat, 0.3);
    for (const LinearId id : all_linears) block[id].weight[1][2] = 2.5F;  // something to clip
    model = nn::ModelContext(spec, {}, 64, at::kFloat);
    prefix = {at::randn({1, 2, 2, 8}), at::randn({1, 2, 2, 8})};
    context = model.block(0, &prefix);
    x = at::randn({3, 20, spec.hidden_size});
    recipe = named_recipe("w4a4kv4-static");
    recipe.weight.bits = 3;
  }

  MinMaxTensors range_of(Site site) const {
    MinMaxTensors range;
    nn::forward(block, context, x, [&](Site at, const at::Tensor& value) {
      if (at == site) range = static_slices(site, value);
      return value;
    });
    return range;
  }

  at::Tensor input_of(Site site) const {
    at::Tensor input;
    nn::forward(block, context, x, [&](Site at, const at::Tensor& value) {
      if (at == site) input = value;
      return value;
    });
    return input;
  }

  const at::NoGradGuard no_grad;
  ModelSpec spec = small_spec(24, 40, 4, 2, 8);
  nn::Block block;
  nn::ModelContext model;
  nn::KeyValue prefix;
  nn::BlockContext context;
  at::Tensor x;
  Recipe recipe;
};

TEST_F(GridSearchTest, StagedErrorEqualsTheWholeBlocks) {
  const GridSearch search(block, context, x, recipe, block_formats(recipe, 0));
  const at::Tensor plain = nn::forward(block, context, x);
  for (const Site site : quantized_sites) {
    const QuantizerFormat format{3, true, ScaleMode::dynamic_scale,
                                 is_kv(site) ? Granularity::group : Granularity::token, 8};
    const SiteFakeQuantizer quantizer(site, format, 0.8F, 0.8F);
    const at::Tensor changed =
        nn::forward(block, context, x, [&](Site at, const at::Tensor& v) { return at == site ? quantizer(v) : v; });
    const double expected = (changed - plain).square().sum(at::kDouble).item<double>();
    EXPECT_GT(expected, 0);
    EXPECT_NEAR(search.output_error(site, quantizer), expected, 1e-4 * expected) << site_name(site);
    EXPECT_LT(search.output_error(site, SiteFakeQuantizer()), 1e-6 * expected);
  }
}

TEST_F(GridSearchTest, WeightClipMinimizesTheOutputErrorOfEachChannelAndGroup) {
  for (const std::int64_t group : {0, 16}) {
    recipe.weight.granularity = group == 0 ? Granularity::channel : Granularity::group;
    recipe.weight.group = group;
    const GridSearch search(block, context, x, recipe, block_formats(recipe, 0));
    const at::Tensor input = input_of(Site::down_input).flatten(0, 1).to(at::kDouble);
    const at::Tensor& weight = block[LinearId::down].weight;
    const at::Tensor clip = search.weight_clip(LinearId::down, search.gram(Site::down_input));
    const std::int64_t size = group == 0 ? 40 : group;
    const auto errors = [&](const at::Tensor& factors) {  // straight from the definition, no Gram matrix
      const at::Tensor delta =
          (weight - dequantize_weight(quantize_weight(weight, factors, recipe.weight), recipe.weight)).to(at::kDouble);
      std::vector<at::Tensor> columns;
      for (std::int64_t begin = 0; begin < 40; begin += size) {
        const std::int64_t length = std::min(size, 40 - begin);
        columns.push_back(at::mm(input.narrow(1, begin, length), delta.narrow(1, begin, length).t()).square().sum(0));
      }
      return at::stack(columns, 1);
    };
    const at::Tensor found = errors(clip);
    for (const double factor : grids::weight_clip(recipe.search)) {
      const at::Tensor other = errors(at::full_like(clip, factor));
      EXPECT_TRUE((found <= other * (1 + 1e-4) + 1e-9).all().item<bool>()) << factor;
    }
    EXPECT_TRUE((found < errors(at::ones_like(clip)) * 0.95).any().item<bool>());  // clipping does help somewhere
  }
}

TEST_F(GridSearchTest, StaticActivationScaleIsTheBestOfTheGrid) {
  const GridSearch search(block, context, x, recipe, block_formats(recipe, 0));
  for (const Site site : {Site::qkv_input, Site::o_input, Site::gate_up_input, Site::down_input}) {
    const MinMaxTensors range = range_of(site);
    const SiteQuantizer found = search.site(site, range);
    ASSERT_EQ(found.scale.size(), 1U);
    const double best = search.output_error(site, SiteFakeQuantizer(site, recipe.activation, found, at::kFloat));
    for (const double factor : grids::static_coarse()) {
      const at::Tensor clip = at::full({1}, factor);
      const ScaleTensors scales = slice_scales(range.min, range.max, clip, clip, recipe.activation);
      EXPECT_LE(best, search.output_error(site, SiteFakeQuantizer(site, recipe.activation, scales)) * (1 + 1e-6));
    }
  }
}

TEST_F(GridSearchTest, StaticCachesGetOneScaleAHead) {
  const GridSearch search(block, context, x, recipe, block_formats(recipe, 0));
  for (const Site site : {Site::k_cache, Site::v_cache}) {
    const MinMaxTensors range = range_of(site);
    const SiteQuantizer found = search.site(site, range);
    ASSERT_EQ(found.scale.size(), 2U);
    const at::Tensor ratio = from_floats(found.scale, {2}, at::kFloat) /
                             slice_scales(range.min, range.max, at::ones({2}), at::ones({2}), recipe.kv).scale;
    EXPECT_TRUE(((ratio > 0.29) & (ratio < 1.01)).all().item<bool>());
  }
  // V's scales minimize V's own error, head by head.
  const at::Tensor value = input_of(Site::v_cache);
  const MinMaxTensors range = range_of(Site::v_cache);
  const auto error = [&](const ScaleTensors& scales) {
    return (SiteFakeQuantizer(Site::v_cache, recipe.kv, scales)(value) - value).square().sum({0, 1, 3});
  };
  const at::Tensor found = error({from_floats(search.site(Site::v_cache, range).scale, {2}, at::kFloat), {}});
  for (const double factor : grids::kv_clip()) {
    const at::Tensor clip = at::full({2}, factor);
    EXPECT_TRUE(
        (found <= error(slice_scales(range.min, range.max, clip, clip, recipe.kv)) * (1 + 1e-5)).all().item<bool>());
  }
}

TEST_F(GridSearchTest, DynamicClipFactorsAreSearchedInOneOrTwoDimensions) {
  for (const bool symmetric : {true, false}) {
    recipe = named_recipe("w4a4kv4-dynamic");
    recipe.activation.symmetric = symmetric;
    const GridSearch search(block, context, x, recipe, block_formats(recipe, 0));
    const SiteQuantizer found = search.site(Site::down_input, {});
    const double best = search.output_error(Site::down_input,
                                            SiteFakeQuantizer(Site::down_input, recipe.activation, found, at::kFloat));
    for (const double factor : grids::dynamic_clip()) {
      const auto f = static_cast<float>(factor);
      EXPECT_LE(best,
                search.output_error(Site::down_input, SiteFakeQuantizer(Site::down_input, recipe.activation, f, f)));
    }
    if (symmetric) {
      EXPECT_EQ(found.clip[0], found.clip[1]);
    }
  }
}

TEST_F(GridSearchTest, KeyScalesMinimizeTheErrorOfTheAttentionProbabilities) {
  for (const std::int64_t window : {0, 7}) {
    spec.block_pattern.front().window = window;
    context = model.block(0, &prefix);
    const nn::Qkv qkv = nn::project_qkv(block, context, nn::qkv_input(block, context, x, {}), prefix.length(), {});
    at::Tensor hidden = at::zeros({20, 22}, at::kBool);  // the prefix, then the tokens
    for (std::int64_t query = 0; query < 20; ++query) {
      for (std::int64_t key = 0; key < 20; ++key) {
        hidden[query][2 + key] = key > query || (window > 0 && key <= query - window);
      }
    }
    const auto probabilities = [&](const at::Tensor& k, bool masked) {  // [sequences, heads, tokens, keys]
      const at::Tensor keys = at::cat({prefix.key.expand({3, -1, -1, -1}), k}, 1).repeat_interleave(2, 2);
      const at::Tensor scores = at::matmul(qkv.q.transpose(1, 2), keys.permute({0, 2, 3, 1})) / std::sqrt(8.0);
      return (masked ? scores.masked_fill(hidden, -std::numeric_limits<double>::infinity()) : scores).softmax(-1);
    };
    const auto error = [&](const ScaleTensors& scales, bool masked) {  // of each KV head
      const at::Tensor rounded = SiteFakeQuantizer(Site::k_cache, recipe.kv, scales)(qkv.k);
      return (probabilities(rounded, masked) - probabilities(qkv.k, masked))
          .square()
          .view({3, 2, -1})
          .sum(at::IntArrayRef({0, 2}), false, at::kDouble);
    };
    const MinMaxTensors range = range_of(Site::k_cache);
    const SiteQuantizer site =
        GridSearch(block, context, x, recipe, block_formats(recipe, 0)).site(Site::k_cache, range);
    const ScaleTensors found{from_floats(site.scale, {2}, at::kFloat), {}};
    bool worse_somewhere = false;
    for (const double factor : grids::kv_clip()) {
      const at::Tensor clip = at::full({2}, factor);
      const at::Tensor other = error(slice_scales(range.min, range.max, clip, clip, recipe.kv), true);
      EXPECT_TRUE((error(found, true) <= other * (1 + 1e-4)).all().item<bool>()) << window << ", " << factor;
      worse_somewhere = worse_somewhere || (error(found, true) < 0.9 * other).all().item<bool>();
    }
    EXPECT_TRUE(worse_somewhere);
    // Were hidden keys seen, the errors would be others.
    EXPECT_FALSE(at::allclose(error(found, true), error(found, false), 1e-2));
  }
}

TEST_F(GridSearchTest, SwitchedOffItLeavesTheMinMaxStart) {
  recipe.search.weight = recipe.search.activation = recipe.search.kv = false;
  const GridSearch search(block, context, x, recipe, block_formats(recipe, 0));
  EXPECT_TRUE(search.weight_clip(LinearId::q, {}).eq(1).all().item<bool>());
  const MinMaxTensors range = range_of(Site::o_input);
  const at::Tensor one = at::ones({1});
  EXPECT_EQ(search.site(Site::o_input, range).scale,
            to_floats(slice_scales(range.min, range.max, one, one, recipe.activation).scale));
}

}  // namespace
}  // namespace pq::quant
