#include "model/format_override.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "model/block_formats.h"
#include "model/spec_for_test.h"

namespace pq {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

Recipe with(const char* name, const std::vector<std::string>& settings) {
  Recipe recipe = named_recipe(name);
  for (const std::string& setting : settings) apply_setting(recipe, setting);
  return recipe;
}

TEST(FormatOverride, SpeaksOfItsBlocksAndLinearLayersAlone) {
  const Recipe recipe = with("w4a4kv4-static", {"linear.down_proj.weight.bits=8", "blocks.1-2.activation.bits=8",
                                                "blocks.3.kv.bits=16", "blocks.2.linear.q_proj.weight.bits=16"});
  EXPECT_NO_THROW(validate_recipe(recipe));
  for (std::int64_t block = 0; block < 6; ++block) {
    const BlockFormats formats = block_formats(recipe, block);
    for (const LinearId id : all_linears) {
      const int own = id == LinearId::down ? 8 : id == LinearId::q && block == 2 ? 16 : 4;
      EXPECT_EQ(formats.weight[id].bits, own) << block << " " << linear_name(id);
    }
    for (const Site site : quantized_sites) {
      const int own = is_kv(site) ? (block == 3 ? 16 : 4) : block == 1 || block == 2 ? 8 : 4;
      EXPECT_EQ(formats.site[site].bits, own) << block << " " << site_name(site);
    }
    EXPECT_EQ(formats.center_keys, block != 3);
  }
  EXPECT_EQ(first_blocks_of_kinds(recipe), (std::vector<std::int64_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(distinct_formats(recipe).size(), 4U);  // block 4 is as block 0
  EXPECT_EQ(precision_name(recipe), "W4A4KV4 mixed");
}

TEST(FormatOverride, AnActivationFormatOfAllReadersIsTheSites) {
  const Recipe recipe =
      with("w4a4kv4-static", {"linear.q_proj.activation.bits=8", "linear.k_proj.activation.bits=8",
                              "linear.v_proj.activation.bits=8", "linear.down_proj.activation.bits=6"});
  EXPECT_NO_THROW(validate_recipe(recipe));
  const BlockFormats formats = block_formats(recipe, 0);
  EXPECT_EQ(formats.site[Site::qkv_input].bits, 8);
  EXPECT_EQ(formats.site[Site::o_input].bits, 4);
  EXPECT_EQ(formats.site[Site::gate_up_input].bits, 4);
  EXPECT_EQ(formats.site[Site::down_input].bits, 6);
}

TEST(FormatOverride, TheLaterOneCountsHoweverNarrowTheOtherIs) {
  const Recipe wide_last = with("w4a4kv4-static", {"blocks.1.linear.o_proj.weight.bits=8", "blocks.0-3.weight.bits=3"});
  EXPECT_EQ(block_formats(wide_last, 1).weight[LinearId::o].bits, 3);
  const Recipe narrow_last =
      with("w4a4kv4-static", {"blocks.0-3.weight.bits=3", "blocks.1.linear.o_proj.weight.bits=8"});
  EXPECT_EQ(block_formats(narrow_last, 1).weight[LinearId::o].bits, 8);
  EXPECT_EQ(block_formats(narrow_last, 1).weight[LinearId::q].bits, 3);
  // What is said of the whole model stands below them all, whenever it is said.
  const Recipe global_last = with("w4a4kv4-static", {"blocks.1.weight.bits=8", "weight.bits=3"});
  EXPECT_EQ(block_formats(global_last, 1).weight[LinearId::q].bits, 8);
  EXPECT_EQ(block_formats(global_last, 0).weight[LinearId::q].bits, 3);
  // The same key again takes the place of the first, at the end.
  const Recipe again =
      with("w4a4kv4-static", {"blocks.1.weight.bits=8", "blocks.0-3.weight.bits=3", "blocks.1.weight.bits=5"});
  EXPECT_EQ(again.overrides.size(), 2U);
  EXPECT_EQ(block_formats(again, 1).weight[LinearId::q].bits, 5);
}

TEST(FormatOverride, EveryFormatFieldHasAScope) {
  int fields = 0;
  for (const RecipeField& field : recipe_fields()) {
    const bool of_weight = field.key.starts_with("weight.");
    const bool of_kv = field.key.starts_with("kv.");
    if (!of_weight && !of_kv && !field.key.starts_with("activation.")) continue;
    ++fields;
    const Json value = field.get(named_recipe("w4a8kv4-static"));
    const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    const std::string key = (of_kv ? "blocks.2-9." : "blocks.2-9.linear.up_proj.") + field.key;
    const FormatOverride parsed = parse_override(key, text);
    EXPECT_EQ(override_setting(parsed), key + "=" + text);
    Recipe recipe = named_recipe("w4a8kv4-static");
    add_override(recipe.overrides, parsed);
    EXPECT_EQ(block_formats(recipe, 2), block_formats(named_recipe("w4a8kv4-static"), 2)) << field.key;
  }
  EXPECT_GT(fields, 15);
  EXPECT_EQ(override_setting(parse_override("blocks.7-7.weight.symmetric", "1")), "blocks.7.weight.symmetric=true");
}

TEST(FormatOverride, SurvivesJsonAndIsUnknownToWhoeverKnowsNone) {
  const Recipe recipe = with("w4a4kv4-static", {"linear.down_proj.weight.bits=8", "blocks.0-1.activation.bits=8"});
  const Json json = recipe_to_json(recipe);
  EXPECT_EQ(json["overrides"], Json({"linear.down_proj.weight.bits=8", "blocks.0-1.activation.bits=8"}));
  EXPECT_EQ(recipe_from_json(json, "here"), recipe);
  EXPECT_FALSE(recipe_to_json(named_recipe("w4a4kv4-static")).contains("overrides"));
  // A reader without overrides takes every key for a field or an object of fields, and this one is neither.
  EXPECT_EQ(find_recipe_field("overrides"), nullptr);
  EXPECT_FALSE(json["overrides"].is_object());
  for (const Json& broken : {Json(3), Json("blocks.0.weight.bits=8"), Json::object(), Json({3}),
                             Json({"weight.bits=8"}), Json({"blocks.0.weight.bits"}), Json({"blocks.0.weight.bits=9"}),
                             Json({"blocks.0.seed=1"}), Json({Json::array()})}) {
    Json wrong = json;
    wrong["overrides"] = broken;
    EXPECT_THAT([&] { recipe_from_json(wrong, "config.json"); }, ThrowsMessage<FormatError>(HasSubstr("config.json")))
        << broken.dump();
  }
}

TEST(FormatOverride, WhatIsWrongIsNamed) {
  const std::vector<std::pair<std::string, std::string>> rows{
      {"blocks.1-0.weight.bits=8", "the range of blocks 1-0 ends before it begins; write blocks.0-1"},
      {"blocks.a.weight.bits=8", "'a' is no range of blocks"},
      {"blocks.1-.weight.bits=8", "'1-' is no range of blocks"},
      {"blocks.-1.weight.bits=8", "'-1' is no range of blocks"},
      {"blocks.0-1-2.weight.bits=8", "'0-1-2' is no range of blocks"},
      {"blocks..weight.bits=8", "'' is no range of blocks"},
      {"blocks.99999999999999999999.weight.bits=8", "is no range of blocks"},
      {"blocks.3=8", "there is no format field ''"},
      {"linear.down_prj.weight.bits=8", "there is no linear layer 'down_prj' in a block; did you mean 'down_proj'?"},
      {"linear.qkv_proj.weight.bits=8", "there is no linear layer 'qkv_proj' in a block"},
      {"linear.q_proj.blocks.0.weight.bits=8", "there is no format field 'blocks.0.weight.bits'"},
      {"linear.q_proj.weigth.bits=8", "did you mean 'weight.bits'?"},
      {"linear.q_proj.weight.bits=9", "linear.q_proj.weight.bits=9: recipe field weight.bits: '9' is not allowed"},
      {"linear.q_proj.kv.bits=8", "K and V are a block's, not a linear layer's; for example blocks.0-1.kv.bits"},
      {"blocks.0.rotate.r4=false", "recipe field blocks.0.rotate.r4: rotate.r4 is the whole model's"},
      {"blocks.0.kv.symmetric=auto", "'auto' is decided for the whole model"},
  };
  for (const auto& [setting, message] : rows) {
    Recipe recipe = named_recipe("w4a4kv4-static");
    EXPECT_THAT([&] { apply_setting(recipe, setting); }, ThrowsMessage<InputError>(HasSubstr(message))) << setting;
    EXPECT_EQ(recipe, named_recipe("w4a4kv4-static")) << setting;
  }
}

TEST(FormatOverride, ContradictionsAreFoundInEveryBlock) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> rows{
      {{"linear.q_proj.activation.bits=8"},
       "recipe field activation (block 0): q_proj and k_proj read the same numbers, which cannot have two formats; set "
       "the "
       "same linear.NAME.activation for q_proj, k_proj, v_proj, or blocks.N.activation"},
      {{"blocks.5.linear.up_proj.activation.symmetric=false"}, "(block 5): gate_proj and up_proj read the same"},
      {{"blocks.4-9.activation.granularity=token"}, "recipe field activation.granularity (block 4, q_proj)"},
      {{"blocks.2.kv.mode=dynamic"}, "recipe field kv.granularity (block 2): dynamic KV scales are per token or group"},
      {{"linear.o_proj.weight.two_level=true"}, "recipe field weight.two_level (block 0, o_proj)"},
      {{"blocks.1.linear.o_proj.weight.granularity=group"}, "recipe field weight.group (block 1, o_proj)"},
  };
  for (const auto& [settings, message] : rows) {
    const Recipe recipe = with("w4a4kv4-static", settings);
    EXPECT_THAT([&] { validate_recipe(recipe); }, ThrowsMessage<InputError>(HasSubstr(message))) << settings[0];
  }
  const Recipe all =
      with("w4a4kv4-static", {"weight.bits=16", "blocks.3.linear.v_proj.weight.bits=4", "finetune.e2e_epochs=1"});
  EXPECT_NO_THROW(validate_recipe(all));
}

TEST(FormatOverride, BlocksThatTheModelDoesNotHaveAreRefused) {
  ModelSpec spec = small_spec(64, 96, 4, 2, 16);
  spec.block_count = 4;
  EXPECT_NO_THROW(validate_recipe(with("w4a4kv4-static", {"blocks.0-3.weight.bits=8"}), spec));
  EXPECT_THAT([&] { validate_recipe(with("w4a4kv4-static", {"blocks.2-4.kv.bits=8"}), spec); },
              ThrowsMessage<InputError>(HasSubstr(
                  "recipe field blocks.2-4.kv.bits: there is no block 4: the model has 4; they count from 0 to 3")));
}

}  // namespace
}  // namespace pq
