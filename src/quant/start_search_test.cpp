#include "quant/start_search.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "model/spec_for_test.h"
#include "nn/block_for_test.h"
#include "nn/model_context.h"
#include "quant/grid_search.h"
#include "quant/key_positions.h"
#include "quant/quantized_model.h"

namespace pq::quant {
namespace {

using testing::Contains;
using testing::HasSubstr;

class StartSearchTest : public testing::Test {
 protected:
  void SetUp() override {
    at::manual_seed(17);
    block = nn::random_block(spec, at::kFloat, 0.3);
    model = nn::ModelContext(spec, {}, 64, at::kFloat);
    prefix = {at::randn({1, 2, 2, 8}), at::randn({1, 2, 2, 8})};
    context = model.block(0, &prefix);
    x = at::randn({6, 48, spec.hidden_size});
  }
  StartSearch run(const Recipe& recipe, at::Tensor& stream, std::int64_t search_sequences = 6, bool advance = true) {
    return search_start(block, context, stream, search_sequences, recipe, 0, advance);
  }
  double distance(const BlockStart& start, const Recipe& recipe) const {
    const QuantizedBlock rounded = round_block(start, recipe, 0);
    const at::Tensor out = nn::forward(restore_block(rounded, spec, recipe, 0, at::kFloat), context, x,
                                       restore_tap(rounded, recipe, 0, at::kFloat));
    return (out - nn::forward(block, context, x)).square().sum(at::kDouble).item<double>();
  }
  const at::NoGradGuard no_grad;
  ModelSpec spec = small_spec(32, 64, 4, 2, 8);
  nn::Block block;
  nn::ModelContext model;
  nn::KeyValue prefix;
  nn::BlockContext context;
  at::Tensor x;
};

TEST_F(StartSearchTest, TakesTheStreamThroughTheBlockAsACheckpointHoldsIt) {
  for (const char* name : {"w4a4kv4-static", "w4a4kv4-dynamic", "w4a16g128"}) {
    const Recipe recipe = named_recipe(name);
    at::Tensor stream = x.clone();
    const StartSearch found = run(recipe, stream);
    const QuantizedBlock rounded = round_block(found.start, recipe, 0);
    const at::Tensor expected = nn::forward(restore_block(rounded, spec, recipe, 0, at::kFloat), context, x,
                                            restore_tap(rounded, recipe, 0, at::kFloat));
    EXPECT_TRUE(stream.equal(expected)) << name;
    at::Tensor untouched = x.clone();
    const StartSearch again = run(recipe, untouched, 6, false);
    EXPECT_TRUE(untouched.equal(x));
    EXPECT_TRUE(again.start.weight_scales[LinearId::down].scale.equal(found.start.weight_scales[LinearId::down].scale));
  }
}

TEST_F(StartSearchTest, IsAsGoodAsTheExhaustiveSearch) {
  for (const char* name : {"w4a4kv4-static", "w4a4kv4-dynamic", "w4a8kv4-static"}) {
    Recipe recipe = named_recipe(name);
    at::Tensor stream = x.clone();
    const double found = distance(run(recipe, stream).start, recipe);
    SiteStatistics statistics;
    nn::forward(block, context, x, [&](Site site, const at::Tensor& value) {
      add_range(statistics, site, value);
      return value;
    });
    recipe.search.exhaustive = true;
    const double reference = distance(find_start(block, context, x, statistics, recipe, 0), recipe);
    EXPECT_LT(found, 1.05 * reference) << name;
    recipe.search = {.weight = false, .activation = false, .kv = false, .gptq = false};
    EXPECT_GT(distance(find_start(block, context, x, statistics, recipe, 0), recipe), 1.2 * reference) << name;
  }
}

// RoPE has turned a constant part of K elsewhere by then, out of its mean and out of the range of what was near.
TEST_F(StartSearchTest, KeysFarBehindTheCalibrationSequencesAreInRange) {
  spec.max_positions = 4096;
  model = nn::ModelContext(spec, {}, 4096 + 2, at::kFloat);
  context = model.block(0, &prefix);
  x = x + 3 * at::randn({1, 1, spec.hidden_size});
  const at::Tensor h = nn::qkv_input(block, context, x, {});
  const auto error_far_behind = [&](std::int64_t positions) {
    Recipe recipe = named_recipe("w4a8kv4-static");
    recipe.search.positions = positions;
    block.key_frame.mean = project_spread(block, context, h, 2, 0, 6, recipe).k.mean(at::IntArrayRef{0, 1});
    at::Tensor stream = x.clone();
    const StartSearch found = run(recipe, stream);
    const SiteFakeQuantizer rounding(Site::k_cache, recipe.kv, found.start.sites[Site::k_cache], at::kFloat);
    const at::Tensor keys = nn::project_qkv(block, context, h, 2500, {}).k;
    return (rounding(keys) - keys).square().mean().item<double>();
  };
  EXPECT_LT(error_far_behind(4096), 0.5 * error_far_behind(48));
}

TEST_F(StartSearchTest, SequencesBeyondTheSearchCountForTheWeightsAlone) {
  const Recipe recipe = named_recipe("w4a4kv4-static");
  at::Tensor whole = x.clone(), part = x.narrow(0, 0, 2).clone();
  const StartSearch more = run(recipe, whole, 2);
  const StartSearch fewer = run(recipe, part, 2);
  EXPECT_EQ(more.start.sites[Site::qkv_input].scale, fewer.start.sites[Site::qkv_input].scale);
  EXPECT_FALSE(more.start.block[LinearId::q].weight.equal(fewer.start.block[LinearId::q].weight));
}

TEST_F(StartSearchTest, ConstantInputsAreNamedAndBrokenOnesRefused) {
  const Recipe recipe = named_recipe("w4a4kv4-static");
  block[LinearId::v].weight.zero_();
  at::Tensor stream = x.clone();
  const StartSearch found = run(recipe, stream);
  EXPECT_THAT(found.warnings, Contains(HasSubstr("v_cache is constant on all calibration tokens")));
  EXPECT_TRUE(stream.isfinite().all().item<bool>());
  block[LinearId::gate].weight[3][4] = std::numeric_limits<float>::quiet_NaN();
  stream = x.clone();
  try {
    run(recipe, stream);
    FAIL();
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("block 0: mlp.down_input: holds values that are not finite"));
  }
}

}  // namespace
}  // namespace pq::quant
