#include "pipeline/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/spec_for_test.h"

namespace pq::quant {
namespace {

ModelSpec spec() {
  ModelSpec spec = small_spec(64, 128, 4, 2, 16);
  spec.block_count = 2;
  spec.max_positions = 4096;
  return spec;
}

double flops_of(const Plan& plan, const std::string& name) {
  for (const PlannedStep& step : plan.steps) {
    if (step.name == name) return step.flops;
  }
  return 0;
}

TEST(Plan, CountsTheProductsOfEachStep) {
  Recipe recipe = named_recipe("w4a4kv4-static");
  recipe.calibration.source = "books";
  recipe.calibration.samples = 3;
  recipe.calibration.length = 100;
  const Plan plan = make_plan(spec(), recipe, 1e9);
  // 2 blocks x 300 tokens x (2 x parameters + 2 x length x heads x head_dim).
  const double parameters = 64 * 64 + 2 * 32 * 64 + 64 * 64 + 3 * 64 * 128;
  EXPECT_DOUBLE_EQ(flops_of(plan, "finding the prefix"), 2 * 300 * (2 * parameters + 2 * 100 * 64));
  EXPECT_GT(flops_of(plan, "search and GPTQ"), 2 * 8192 * 2 * parameters);
  double seconds = 0;
  for (const PlannedStep& step : plan.steps) seconds += step.seconds;
  EXPECT_DOUBLE_EQ(plan.seconds, seconds);
  EXPECT_DOUBLE_EQ(make_plan(spec(), recipe, 2e9).seconds, seconds / 2);
  // In bfloat16 the products are the same ones, and take less time.
  const Plan rounded = make_plan(spec(), recipe, 1e9, true);
  EXPECT_EQ(flops_of(rounded, "finding the prefix"), flops_of(plan, "finding the prefix"));
  EXPECT_LT(rounded.seconds, plan.seconds);
}

TEST(Plan, HasOnlyTheStepsOfTheRecipe) {
  Recipe recipe = named_recipe("w4a4kv4-static");
  recipe.prefix.tokens = "none";
  recipe.search = {.weight = false, .activation = false, .kv = false, .gptq = false};
  recipe.calibration.source = "books";
  EXPECT_TRUE(make_plan(spec(), recipe, 1e9).steps.empty());
  recipe.calibration.source = "self";
  recipe.finetune.epochs = 2;
  const Plan plan = make_plan(spec(), recipe, 1e9);
  ASSERT_EQ(plan.steps.size(), 2U);
  EXPECT_EQ(plan.steps[0].name, "sampling calibration text");
  EXPECT_EQ(plan.steps[1].name, "fine-tuning");
  recipe.search.weight = true;
  recipe.search.exhaustive = true;
  EXPECT_GT(flops_of(make_plan(spec(), recipe, 1e9), "exhaustive search and GPTQ"), 0);
}

TEST(Plan, SaysTheRecipeInWords) {
  EXPECT_EQ(recipe_in_words(named_recipe("w4a4kv4-static")),
            "W4A4KV4, static scales, rotated, prefix found in the calibration text, search and GPTQ");
  Recipe recipe = named_recipe("w4a16g128");
  recipe.prefix.tokens = "none";
  recipe.finetune.epochs = 3;
  EXPECT_EQ(recipe_in_words(recipe), "W4A16g128, rotated, no prefix, search and GPTQ, 3 epochs of fine-tuning");
}

TEST(Plan, MeasuresARate) { EXPECT_GT(measured_flops(spec()), 1e6); }

}  // namespace
}  // namespace pq::quant
