#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "base/random.h"
#include "kernels/select.h"
#include "model/spec_for_test.h"
#include "numerics/transform_for_test.h"
#include "runtime/model_loader.h"
#include "verify/reference.h"
#include "verify/verify.h"

namespace pq::runtime {
namespace {

ModelSpec recipes_spec() {
  ModelSpec spec = small_spec(96, 176, 4, 2, 24);
  spec.vocab_size = 101;
  spec.max_positions = 512;
  return spec;
}

struct Case {
  std::string recipe;
  std::vector<std::string> settings;
  int lm_head_bits = 16;
  bool qwen = false;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const std::string& name : recipe_names()) all.push_back({name, {}});
  const std::string fixed = "w4a8kv4-static";
  const std::string moving = "w4a4kv4-dynamic";
  all.push_back({fixed, {"weight.bits=3"}});
  all.push_back({fixed, {"weight.bits=5", "activation.bits=6", "kv.bits=3"}});
  all.push_back({fixed, {"weight.bits=2", "activation.bits=3", "kv.bits=7"}});
  all.push_back({fixed, {"weight.bits=16"}});
  all.push_back({fixed, {"activation.bits=16", "kv.bits=16"}});
  all.push_back({fixed, {"weight.symmetric=false", "activation.symmetric=false", "kv.symmetric=false"}});
  all.push_back({fixed, {"rotate.r3=false", "rotate.r4=false"}, 8});
  all.push_back({fixed, {}, 8, true});
  all.push_back({moving, {"weight.symmetric=false", "activation.symmetric=false", "kv.symmetric=false"}, 16, true});
  all.push_back({moving, {"weight.granularity=group", "weight.group=48"}});
  all.push_back(
      {moving, {"weight.granularity=group", "weight.group=32", "activation.granularity=group", "activation.group=64"}});
  all.push_back({moving,
                 {"weight.granularity=group", "weight.group=64", "activation.granularity=group", "activation.group=32",
                  "activation.symmetric=false"}});
  all.push_back({moving, {"activation.granularity=group", "activation.group=40"}});
  all.push_back({moving, {"activation.granularity=tensor"}});
  all.push_back({moving, {"activation.granularity=tensor", "activation.symmetric=false", "weight.bits=16"}});
  all.push_back({moving, {"kv.granularity=token"}});
  all.push_back({moving, {"kv.granularity=token", "kv.symmetric=false", "kv.bits=8"}});
  all.push_back({moving, {"kv.group=10"}});
  all.push_back({moving, {"kv.group=10", "kv.granularity=token"}});
  const std::string two_level = "w4g64a8kv4-dynamic";
  all.push_back({two_level, {"activation.bits=16"}});
  all.push_back({two_level, {"activation.symmetric=false"}, 8, true});
  all.push_back({two_level, {"activation.granularity=group", "activation.group=32"}});
  all.push_back({two_level, {"activation.granularity=group", "activation.group=96"}});
  all.push_back({two_level, {"activation.granularity=tensor"}});
  all.push_back({"w4g32a4kv4-static", {"activation.symmetric=false", "kv.symmetric=false"}});
  all.push_back({"w4a16g128", {"weight.group=48"}});
  all.push_back({"w4a16g128", {"weight.group=64"}, 8});
  all.push_back({"w4a16g128", {"weight.granularity=channel", "weight.bits=8"}});
  return all;
}

/// Formats of blocks and linear layers of their own; the model has two blocks.
std::vector<Case> mixed_cases() {
  const std::string fixed = "w4a8kv4-static";
  const std::string moving = "w4a4kv4-dynamic";
  const std::string two_level = "w4g32a8kv4-dynamic";
  const std::string weights = "w4a16g128";
  std::vector<Case> all;
  all.push_back({fixed, {"linear.down_proj.weight.bits=8", "blocks.0.activation.bits=4", "blocks.1.kv.bits=8"}});
  all.push_back({fixed, {"blocks.1.weight.bits=16"}});
  all.push_back({fixed, {"blocks.1.activation.bits=16", "blocks.0.kv.bits=16"}});
  all.push_back({fixed, {"linear.q_proj.weight.bits=16", "linear.v_proj.weight.bits=3"}});
  all.push_back({fixed, {"linear.k_proj.weight.bits=16", "activation.symmetric=false"}, 8, true});
  all.push_back({fixed, {"linear.gate_proj.weight.bits=2", "linear.up_proj.weight.bits=8"}});
  all.push_back({fixed, {"linear.up_proj.weight.bits=16", "linear.o_proj.weight.bits=16"}});
  all.push_back({fixed,
                 {"blocks.0.kv.mode=dynamic", "blocks.0.kv.granularity=group", "blocks.0.kv.group=32",
                  "blocks.1.kv.symmetric=false"}});
  all.push_back({moving, {"blocks.0.kv.granularity=token", "blocks.1.kv.group=10"}});
  all.push_back({moving,
                 {"linear.q_proj.weight.granularity=group", "linear.q_proj.weight.group=32",
                  "linear.k_proj.weight.granularity=group", "linear.k_proj.weight.group=64"}});
  all.push_back({moving, {"linear.gate_proj.weight.granularity=group", "linear.gate_proj.weight.group=32"}});
  all.push_back({moving, {"linear.v_proj.weight.granularity=group", "linear.v_proj.weight.group=24"}});
  all.push_back({moving, {"blocks.1.activation.granularity=tensor", "linear.q_proj.weight.bits=16"}});
  all.push_back({two_level, {"linear.gate_proj.weight.two_level=false", "linear.k_proj.weight.two_level=false"}});
  all.push_back({two_level, {"linear.up_proj.weight.group=64", "linear.q_proj.weight.group=64"}});
  all.push_back({two_level,
                 {"linear.up_proj.weight.two_level=false", "linear.up_proj.weight.granularity=channel",
                  "linear.up_proj.weight.bits=8"}});
  all.push_back({weights, {"linear.q_proj.weight.group=32", "linear.up_proj.weight.bits=8"}});
  all.push_back({weights, {"linear.v_proj.weight.bits=16", "blocks.0.activation.bits=8"}, 8});
  return all;
}

std::string name_of(const Case& row) {
  std::string name = row.recipe;
  for (const std::string& setting : row.settings) name += " " + setting;
  return name;
}

void check(const Case& row, const kernels::KernelTable& table, int token_count = 37) {
  Recipe recipe = named_recipe(row.recipe);
  for (const std::string& setting : row.settings) apply_setting(recipe, setting);
  ModelSpec spec = recipes_spec();
  if (row.qwen) {
    spec.family = find_family("qwen2");
    spec.qkv_bias = true;
    spec.block_pattern = {{.window = 0}, {.window = 7}};
  }
  const ModelSource source = random_source(spec, recipe, 3);
  const Model model(build_model(source, {.lm_head_bits = row.lm_head_bits}, table));
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < token_count; ++i) tokens.push_back(i * 17 % 101);
  const VerifyReport report = verify(model, source, tokens);
  for (const VerifyRow& result : report.rows) {
    EXPECT_LE(result.share, 1) << table.name << " " << name_of(row) << ": " << result.tensor << " max error "
                               << result.max_error << " block " << result.worst_block;
    EXPECT_EQ(result.differing, 0) << table.name << " " << name_of(row) << ": " << result.tensor << " of "
                                   << result.codes;
  }
  EXPECT_LE(report.logits.kl_divergence, 0.2) << table.name << " " << name_of(row);
}

TEST(Recipes, EveryStageAgreesWithTheReference) {
  for (const kernels::KernelTable* table : kernels::kernel_tables()) {
    if (!kernels::supported(*table)) continue;
    for (const Case& row : cases()) check(row, *table);
  }
}

// A few tokens, whose products read packed codes as they lie, and many.
TEST(Recipes, MixedBlocksAgreeWithTheReference) {
  for (const kernels::KernelTable* table : kernels::kernel_tables()) {
    if (!kernels::supported(*table)) continue;
    for (const Case& row : mixed_cases()) {
      for (const int tokens : {3, 37}) check(row, *table, tokens);
    }
  }
}

// Formats that are another block's, or another linear layer's, would be seen where they are.
TEST(Recipes, AnotherBlocksFormatsAreSeen) {
  Recipe recipe = named_recipe("w4a8kv4-static");
  apply_setting(recipe, "blocks.1.activation.bits=4");
  const ModelSource source = random_source(recipes_spec(), recipe, 3);
  const Model model(build_model(source, {}, *kernels::kernel_tables().front()));
  ModelSource other = source;
  other.recipe.overrides.clear();
  apply_setting(other.recipe, "blocks.0.activation.bits=4");
  const std::vector<std::int32_t> tokens{1, 2, 3, 4, 5};
  const auto differing = [&](const ModelSource& of) {
    std::int64_t sum = 0;
    for (const VerifyRow& row : verify(model, of, tokens).rows) sum += row.differing;
    return sum;
  };
  EXPECT_EQ(differing(source), 0);
  EXPECT_GT(differing(other), 0);
}

TEST(Recipes, TheInputOfAnEightBitHeadHasItsName) {
  const ModelSource source = random_source(recipes_spec(), named_recipe("w4a8kv4-static"), 3);
  const Model model(build_model(source, {.lm_head_bits = 8}, *kernels::kernel_tables().front()));
  std::vector<std::string> tensors;
  for (const VerifyRow& row : verify(model, source, std::vector<std::int32_t>{1, 2, 3}).rows) {
    tensors.push_back(row.tensor);
  }
  EXPECT_THAT(tensors, testing::IsSupersetOf({"norm", "lm_head_input", "lm_head"}));
  EXPECT_THAT(tensors, testing::Not(testing::Contains("block_output")));
}

/// The same model with every kind of step wherever a transform can be, another in every block.
ModelSource with_transforms(const ModelSource& source) {
  ModelSource transformed = source;
  transformed.block = [source](std::int64_t block) {
    BlockSource of = source.block(block);
    for (const Site site : quantized_sites) {
      const auto size = transform_size(source.spec, site);
      if (size) of.parameters.transforms[site] = every_step(*size, 50 + static_cast<std::uint64_t>(block));
    }
    return of;
  };
  return transformed;
}

TEST(Transforms, EveryStepAtEverySiteAgreesWithTheReference) {
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < 21; ++i) tokens.push_back(i * 17 % 101);
  for (const kernels::KernelTable* table : kernels::kernel_tables()) {
    if (!kernels::supported(*table)) continue;
    for (const char* recipe : {"w4a8kv4-static", "w4a4kv4-dynamic", "w4a16g128", "w8a8kv8-dynamic"}) {
      const ModelSource source = with_transforms(random_source(recipes_spec(), named_recipe(recipe), 3));
      const Model model(build_model(source, {}, *table));
      const VerifyReport report = verify(model, source, tokens);
      std::string names;
      for (const VerifyRow& row : report.rows) {
        EXPECT_TRUE(row.passed()) << table->name << " " << recipe << ": " << row.tensor << " " << row.share;
        names += row.tensor + ";";
      }
      EXPECT_THAT(names, testing::AllOf(testing::HasSubstr("self_attn.qkv_input, transformed"),
                                        testing::HasSubstr("self_attn.o_input, transformed"),
                                        testing::HasSubstr("mlp.gate_up_input, transformed"),
                                        testing::HasSubstr("mlp.down_product, rotated")));
      EXPECT_LE(report.logits.kl_divergence, 0.2) << table->name << " " << recipe;
    }
  }
}

TEST(Transforms, AWrongOneIsSeenAtItsSite) {
  const ModelSource source = with_transforms(random_source(recipes_spec(), named_recipe("w4a16g128"), 3));
  const auto failures = [&](Site site) {
    ModelSource broken = source;
    broken.block = [&](std::int64_t block) {
      BlockSource of = source.block(block);
      if (block == 1) std::get<MultiplyStep>(of.parameters.transforms[site].steps[1]).factors[2] *= 1.01F;
      return of;
    };
    const Model model(build_model(broken, {}, *kernels::kernel_tables().front()));
    std::string names;
    for (const VerifyRow& row : verify(model, source, std::vector<std::int32_t>{1, 2, 3, 4, 5, 6, 7}).rows) {
      if (!row.passed()) names += row.tensor + ";";
    }
    return names;
  };
  EXPECT_EQ(failures(Site::qkv_input), "self_attn.qkv_input, transformed;");
  EXPECT_EQ(failures(Site::k_cache), "self_attn.query;self_attn.key;");
  EXPECT_EQ(failures(Site::o_input), "self_attn.o_input, transformed;");
  EXPECT_EQ(failures(Site::gate_up_input), "mlp.gate_up_input, transformed;");
  EXPECT_EQ(failures(Site::down_input), "mlp.down_product, rotated;");
}

/// The rows that do not pass when the runtime has block 1 with some damage and the reference has it without.
std::string failures_of_damaged_block(const ModelSource& source, const std::function<void(BlockSource&)>& damage) {
  ModelSource broken = source;
  broken.block = [&](std::int64_t index) {
    BlockSource block = source.block(index);
    if (index == 1) damage(block);
    return block;
  };
  const Model model(build_model(broken, {}, *kernels::kernel_tables().front()));
  std::string names;
  for (const VerifyRow& row : verify(model, source, std::vector<std::int32_t>{1, 2, 3, 4, 5, 6, 7}).rows) {
    if (!row.passed()) names += row.tensor + ";";
  }
  return names;
}

// The comparison sees one wrong scale of one channel, and a quantizer whose scale is off by a thousandth.
TEST(Recipes, ABrokenModelIsSeen) {
  const ModelSource source = random_source(recipes_spec(), named_recipe("w4a8kv4-static"), 3);
  const auto failures = [&](const std::function<void(BlockSource&)>& damage) {
    return failures_of_damaged_block(source, damage);
  };
  EXPECT_EQ(failures([](BlockSource&) {}), "");
  EXPECT_EQ(failures([](BlockSource& block) { block.parameters.linears[LinearId::down].scales[5] *= 1.001F; }),
            "mlp.down_proj;");
  EXPECT_EQ(failures([](BlockSource& block) { block.parameters.linears[LinearId::k].scales[2] *= 1.001F; }),
            "self_attn.k_proj;");
  EXPECT_EQ(failures([](BlockSource& block) { block.parameters.sites[Site::o_input].scale[0] *= 1.001F; }),
            "self_attn.o_input;self_attn.o_proj;");
  EXPECT_EQ(failures([](BlockSource& block) { block.parameters.sites[Site::v_cache].scale[1] *= 1.05F; }),
            "self_attn.v_cache;");
}

// Where float32 itself overflows, the machine is not to blame; where the reference stays small, it is.
TEST(Recipes, AnOverflowIsTheModels) {
  ModelSource source = random_source(recipes_spec(), named_recipe("w4a8kv4-dynamic"), 3);
  const std::vector<std::int32_t> tokens{1, 2, 3, 4, 5, 6, 7};
  EXPECT_EQ(verify(Model(build_model(source, {}, *kernels::kernel_tables().front())), source, tokens).overflow, "");
  source.block = [block_of = source.block](std::int64_t index) {
    BlockSource block = block_of(index);
    for (const LinearId id : {LinearId::gate, LinearId::up, LinearId::down}) {
      for (float& scale : block.parameters.linears[id].scales) scale = 1e20F;
    }
    return block;
  };
  const VerifyReport report = verify(Model(build_model(source, {}, *kernels::kernel_tables().front())), source, tokens);
  EXPECT_FALSE(report.passed());
  EXPECT_THAT(report.overflow, testing::HasSubstr("mlp."));
  EXPECT_THAT(report.overflow, testing::HasSubstr("block 0"));

  Matrix actual(1, 1);
  Matrix expected(1, 1);
  actual.values[0] = std::numeric_limits<double>::quiet_NaN();
  expected.values[0] = 2;
  Comparison wrong;
  wrong.add_values("norm", 0, actual, expected, expected);
  expected.values[0] = 1e30;
  wrong.add_values("norm", 1, actual, expected, expected);
  EXPECT_EQ(wrong.overflow(), "");
}

// One step more or less of one group of one channel.
TEST(Recipes, AWrongGroupScaleOrZeroPointIsSeen) {
  const ModelSource source = random_source(recipes_spec(), named_recipe("w4g32a8kv4-static"), 3);
  const auto failures = [&](const std::function<void(QuantizedLinear&)>& damage) {
    return failures_of_damaged_block(source,
                                     [&](BlockSource& block) { damage(block.parameters.linears[LinearId::k]); });
  };
  EXPECT_EQ(failures([](QuantizedLinear&) {}), "");
  EXPECT_EQ(failures([](QuantizedLinear& linear) { linear.group_scales[7] -= 1; }), "self_attn.k_proj;");
  EXPECT_EQ(failures([](QuantizedLinear& linear) { linear.zero_points[7] = linear.zero_points[7] == 8 ? 7 : 8; }),
            "self_attn.k_proj;");
}

ModelSpec tiny_spec() {
  ModelSpec spec = small_spec(32, 44, 2, 1, 16);
  spec.vocab_size = 61;
  return spec;
}

std::vector<std::int32_t> random_tokens(std::size_t count, std::uint64_t seed) {
  Random random(seed, "tokens");
  std::vector<std::int32_t> tokens;
  while (tokens.size() < count) tokens.push_back(static_cast<std::int32_t>(random.below(61)));
  return tokens;
}

// Whatever is asked of a machine that computes right, the whole runs agree, with a large margin: a value that rounding
// puts on the other side of a border is decided as the runtime does it.
TEST(Recipes, NoSeedBlamesTheMachine) {
  const kernels::KernelTable& table = *kernels::kernel_tables().front();
  for (const char* recipe : {"w4a4kv4-static", "w4a8kv4-static", "w4a4kv4-dynamic"}) {
    for (const std::int64_t prefix : {0, 2}) {
      const ModelSource source = random_source(tiny_spec(), named_recipe(recipe), prefix);
      const Model model(build_model(source, {}, table));
      for (std::uint64_t seed = 0; seed < 40; ++seed) {
        const VerifyReport report = verify(model, source, random_tokens(8 + seed % 2 * 8, seed));
        EXPECT_TRUE(report.passed()) << recipe << " " << seed;
        EXPECT_LE(report.logits.kl_divergence, small_kl_divergence / 4) << recipe << " " << seed;
      }
    }
  }
}

TEST(Recipes, OnABorderTheReferenceDecidesAsTheRuntime) {
  const QuantizerFormat format = named_recipe("w4a4kv4-static").activation;
  ASSERT_TRUE(format.is_static());
  SiteQuantizer parameters;
  parameters.scale = {1};
  parameters.zero_point = {0};
  Matrix x(1, 6);
  x.values = {1.5, 1.5 + 0.9 * border_width, 1.5 - 0.9 * border_width, 1.5 + 1.1 * border_width, -2.0, 3.0};
  const std::vector<std::int32_t> own = quantize_site(Site::qkv_input, format, parameters, 6, x).steps;
  EXPECT_THAT(own, testing::ElementsAre(2, 2, 1, 2, -2, 3));
  const std::vector<std::int32_t> chosen{1, 1, 2, 1, -3, 3};
  const SiteCodes taken = quantize_site(Site::qkv_input, format, parameters, 6, x, chosen);
  EXPECT_THAT(taken.steps, testing::ElementsAre(1, 1, 2, 2, -2, 3));
  EXPECT_THAT(taken.values.values, testing::ElementsAre(1, 1, 2, 2, -2, 3));
}

// What no stage can see, as each is compared on the runtime's own inputs, the whole runs must: here another embedding.
TEST(Recipes, AFaultBetweenTheStagesIsSeenAtTheEnd) {
  for (const char* recipe : {"w4a4kv4-static", "w4a4kv4-dynamic", "w4a16g128"}) {
    const ModelSource source = random_source(tiny_spec(), named_recipe(recipe), 3);
    ModelSource broken = source;
    std::vector<std::byte> rows(source.embedding.bytes.begin(), source.embedding.bytes.end());
    std::rotate(rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(rows.size() / 61), rows.end());
    broken.embedding.bytes = rows;
    const Model model(build_model(broken, {}, *kernels::kernel_tables().front()));
    const VerifyReport report = verify(model, source, random_tokens(8, 1));
    for (const VerifyRow& row : report.rows) EXPECT_TRUE(row.passed()) << recipe << " " << row.tensor;
    EXPECT_FALSE(report.logits_passed()) << recipe << " " << report.logits.kl_divergence;
  }
}

}  // namespace
}  // namespace pq::runtime
