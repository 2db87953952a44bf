#include "model/recipe.h"
#include "model/block_formats.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace pq {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(Recipe, EveryBuiltInRecipeSurvivesJson) {
  for (const auto& name : recipe_names()) {
    const Recipe recipe = named_recipe(name);
    EXPECT_EQ(recipe_from_json(parse_json(recipe_to_json(recipe).dump(), "x"), "x"), recipe) << name;
  }
}

TEST(Recipe, KeysAreCenteredWhereTheirScalesAreSearched) {
  Recipe recipe = named_recipe("w4a8kv4-dynamic");
  EXPECT_TRUE(block_formats(recipe, 0).center_keys);
  apply_setting(recipe, "search.kv=false");
  EXPECT_FALSE(block_formats(recipe, 0).center_keys);
  recipe = named_recipe("w4a8kv4-dynamic");
  apply_setting(recipe, "kv.bits=16");
  EXPECT_FALSE(block_formats(recipe, 0).center_keys);
  recipe = named_recipe("w4a8kv4-dynamic");
  apply_setting(recipe, "kv.center_keys=false");
  EXPECT_FALSE(block_formats(recipe, 0).center_keys);
  EXPECT_FALSE(block_formats(named_recipe("w8a8kv8-static"), 0).center_keys);
  EXPECT_FALSE(block_formats(named_recipe("w4a16g128"), 0).center_keys);
}

TEST(Recipe, KeysAreBalancedWhereTheirScalesAreSearched) {
  const auto balanced = [](const char* name, const char* setting) {
    Recipe recipe = named_recipe(name);
    apply_setting(recipe, setting);
    return block_formats(recipe, 0).balance_keys;
  };
  EXPECT_TRUE(balanced("w4a8kv4-dynamic", "kv.center_keys=false"));
  EXPECT_FALSE(balanced("w4a8kv4-dynamic", "search.kv=false"));
  EXPECT_FALSE(balanced("w4a8kv4-dynamic", "kv.bits=16"));
  EXPECT_FALSE(balanced("w4a8kv4-dynamic", "kv.balance_keys=false"));
  EXPECT_FALSE(balanced("w8a8kv8-static", "seed=1"));
}

TEST(Recipe, EveryFieldAppliesWhatItShows) {
  for (const auto& field : recipe_fields()) {
    Recipe recipe = named_recipe("w4a4kv4-static");
    const Json value = field.get(recipe);
    const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    EXPECT_NO_THROW(apply_setting(recipe, field.key + "=" + text)) << field.key;
    EXPECT_EQ(recipe, named_recipe("w4a4kv4-static")) << field.key;
    EXPECT_FALSE(field.help.empty());
  }
}

TEST(Recipe, SettingsChangeTheField) {
  Recipe recipe = named_recipe("w4a4kv4-static");
  apply_setting(recipe, "weight.bits=3");
  EXPECT_EQ(recipe.weight.bits, 3);
  apply_setting(recipe, "kv.mode=dynamic");
  EXPECT_FALSE(recipe.kv.is_static());
  apply_setting(recipe, "prefix.upper_threshold=32.5");
  EXPECT_EQ(recipe.prefix.upper_threshold, 32.5);
  EXPECT_EQ(precision_name(recipe), "W3A4KV4");
  EXPECT_EQ(precision_name(named_recipe("w2a16g128")), "W2A16g128");
  EXPECT_EQ(precision_name(named_recipe("w4g64a8kv4-static")), "W4A8KV4g64");
}

TEST(Recipe, TyposAreNamedAndMended) {
  Recipe recipe;
  EXPECT_THAT([] { named_recipe("w4a4kv4-statik"); },
              ThrowsMessage<InputError>(HasSubstr("did you mean 'w4a4kv4-static'?")));
  EXPECT_THAT([&] { apply_setting(recipe, "weigth.bits=3"); },
              ThrowsMessage<InputError>(HasSubstr("did you mean 'weight.bits'?")));
  EXPECT_THAT([&] { apply_setting(recipe, "weight.bits=9"); }, ThrowsMessage<InputError>(HasSubstr("2 to 8, or 16")));
  EXPECT_THAT([&] { apply_setting(recipe, "kv.mode=statik"); },
              ThrowsMessage<InputError>(HasSubstr("did you mean 'static'?")));
  EXPECT_THAT([&] { apply_setting(recipe, "weight.bits"); }, ThrowsMessage<InputError>(HasSubstr("key=value")));
  EXPECT_THAT([&] { apply_setting(recipe, "weight.bits=4x"); }, ThrowsMessage<InputError>(HasSubstr("'4x'")));
}

TEST(Recipe, ContradictionsAreRefused) {
  for (const auto& name : recipe_names()) EXPECT_NO_THROW(validate_recipe(named_recipe(name))) << name;
  Recipe recipe = named_recipe("w4a4kv4-static");
  recipe.activation.granularity = Granularity::token;
  EXPECT_THROW(validate_recipe(recipe), InputError);
  recipe = named_recipe("w4a4kv4-dynamic");
  recipe.kv.granularity = Granularity::head;
  EXPECT_THROW(validate_recipe(recipe), InputError);
  recipe = named_recipe("w4a16g128");
  recipe.weight.group = 0;
  EXPECT_THROW(validate_recipe(recipe), InputError);
  for (const char* setting :
       {"weight.bits=3", "weight.symmetric=true", "weight.granularity=channel", "weight.group=48"}) {
    recipe = named_recipe("w4g64a8kv4-static");
    apply_setting(recipe, setting);
    EXPECT_THAT([&] { validate_recipe(recipe); }, ThrowsMessage<InputError>(HasSubstr("weight.two_level"))) << setting;
  }
  recipe = named_recipe("w4g64a8kv4-static");
  apply_setting(recipe, "weight.scale_type=f16");
  EXPECT_THAT([&] { validate_recipe(recipe); }, ThrowsMessage<InputError>(HasSubstr("weight.scale_type")));
}

}  // namespace
}  // namespace pq
