#include "pipeline/mending.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "io/block_tensors.h"
#include "model/spec_for_test.h"

namespace pq::quant {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

const ModelSpec spec = small_spec(256, 512, 4, 2, 64);

LinearError error(double weights, double inputs, double propagated = 1) {
  return {weights + inputs, weights, inputs, propagated};
}

TEST(Mending, NamesWhatHurts) {
  const Recipe recipe = named_recipe("w4a4kv4-static");
  EXPECT_THAT(mend(spec, recipe, 0, LinearId::down, error(0.1, 0.1)).settings,
              ElementsAre("blocks.0.linear.down_proj.weight.bits=8", "blocks.0.linear.down_proj.activation.bits=8"));
  EXPECT_THAT(mend(spec, recipe, 0, LinearId::down, error(0.01, 0.2)).settings,
              ElementsAre("blocks.0.linear.down_proj.activation.bits=8"));
  EXPECT_THAT(mend(spec, recipe, 0, LinearId::o, error(0.2, 0.01)).settings,
              ElementsAre("blocks.0.linear.o_proj.weight.bits=8"));
  // gate and up read the same numbers.
  EXPECT_THAT(mend(spec, recipe, std::nullopt, LinearId::up, error(0.01, 0.2)).settings,
              ElementsAre("linear.gate_proj.activation.bits=8", "linear.up_proj.activation.bits=8"));
  EXPECT_THAT(mend_caches(spec, recipe, 0).settings, ElementsAre("blocks.0.kv.bits=8"));
}

TEST(Mending, CountsTheBitsThatItCosts) {
  const Recipe recipe = named_recipe("w4a4kv4-static");
  const double before = io::bits_per_weight(spec, recipe);
  const double share = static_cast<double>(256 * 512) / static_cast<double>(block_parameters(spec) * spec.block_count);
  EXPECT_NEAR(mend(spec, recipe, 0, LinearId::down, error(1, 1)).bits_per_weight, before + 4 * share, 1e-9);
  EXPECT_EQ(mend(spec, recipe, 0, LinearId::down, error(0, 1)).bits_per_weight, before);
}

TEST(Mending, GoesTo16WhereThereAre8AndLeavesOutWhatIsWhole) {
  const Recipe w8 = named_recipe("w4a8kv4-static");
  EXPECT_THAT(mend(spec, w8, 0, LinearId::down, error(0.1, 0.1)).settings,
              ElementsAre("blocks.0.linear.down_proj.weight.bits=8", "blocks.0.linear.down_proj.activation.bits=16"));
  const Recipe weights = named_recipe("w4a16g128");
  EXPECT_THAT(mend(spec, weights, 0, LinearId::q, error(0.1, 0)).settings,
              ElementsAre("blocks.0.linear.q_proj.weight.bits=8"));
  EXPECT_THAT(mend_caches(spec, weights, 0).settings, IsEmpty());
}

TEST(Mending, EveryRecipesMendsAreRecipes) {
  for (const std::string& name : recipe_names()) {
    const Recipe recipe = named_recipe(name);
    for (const LinearId linear : all_linears) {
      Recipe mended = recipe;
      const Mend found = mend(spec, recipe, 0, linear, error(1, 1));
      for (const std::string& setting : found.settings) apply_setting(mended, setting);
      validate_recipe(mended, spec);
      EXPECT_NE(mended, recipe) << name;
      EXPECT_EQ(io::bits_per_weight(spec, mended), found.bits_per_weight);
    }
  }
}

TEST(Mending, RanksByWhatReachesTheBlocksOutput) {
  std::vector<LayerErrors> errors(1);
  errors[0].linears[LinearId::gate] = error(0.9, 0.9, 0.001);  // large and harmless
  errors[0].linears[LinearId::o] = error(0.01, 0.01, 0.02);
  errors[0].linears[LinearId::v] = {std::nan(""), std::nan(""), std::nan(""), std::nan("")};
  const auto worst = worst_linears(spec, named_recipe("w4a4kv4-static"), errors, 10);
  ASSERT_EQ(worst.size(), 2U);
  EXPECT_EQ(worst[0].linear, LinearId::o);
  EXPECT_EQ(worst[1].linear, LinearId::gate);
}

}  // namespace
}  // namespace pq::quant
