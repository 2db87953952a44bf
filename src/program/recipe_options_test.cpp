#include "program/recipe_options.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <algorithm>

#include "base/error.h"

namespace pq {
namespace {

Recipe parsed(std::vector<std::string> arguments) {
  CLI::App app;
  RecipeOptions options;
  std::string model;
  app.add_option("MODEL", model);
  add_recipe_options(app, options);
  std::reverse(arguments.begin(), arguments.end());
  app.parse(std::move(arguments));
  EXPECT_EQ(model, "m");
  return resolve(options);
}

std::string message_of(std::vector<std::string> arguments) {
  try {
    parsed(std::move(arguments));
  } catch (const InputError& error) {
    return error.what();
  }
  return "no error";
}

TEST(RecipeOptions, DefaultIsTheStaticFourBitRecipe) { EXPECT_EQ(parsed({"m"}), named_recipe("w4a4kv4-static")); }

TEST(RecipeOptions, SettingsStandInFrontOfPositionals) {
  const Recipe recipe = parsed({"--set", "weight.bits=3", "--recipe=w4a8kv4-dynamic", "m", "--set", "kv.bits=8"});
  EXPECT_EQ(recipe.weight.bits, 3);
  EXPECT_EQ(recipe.activation.bits, 8);
  EXPECT_EQ(recipe.kv.bits, 8);
}

TEST(RecipeOptions, ShortcutsComeBeforeSettingsWhateverTheirPlace) {
  const Recipe recipe = parsed({"m", "--set", "rotate.r2=true", "--no-rotate", "--no-search", "--prefix", "none",
                                "--prefix-count", "-1", "--seed", "18446744073709551615"});
  EXPECT_EQ(recipe.rotate.r1, ResidualRotation::none);
  EXPECT_TRUE(recipe.rotate.r2);
  EXPECT_FALSE(recipe.search.weight || recipe.search.activation || recipe.search.kv);
  EXPECT_EQ(recipe.prefix.tokens, "none");
  EXPECT_EQ(recipe.prefix.count, -1);
  EXPECT_EQ(recipe.seed, ~std::uint64_t{0});
}

TEST(RecipeOptions, TheLastSettingWins) { EXPECT_EQ(parsed({"m", "--set", "seed=1", "--set", "seed=2"}).seed, 2U); }

TEST(RecipeOptions, MistakesNameTheNearestWord) {
  EXPECT_THAT(message_of({"m", "--recipe", "w4a4kv4-statik"}), testing::HasSubstr("did you mean 'w4a4kv4-static'?"));
  EXPECT_THAT(message_of({"m", "--set", "weight.bit=3"}), testing::HasSubstr("did you mean 'weight.bits'?"));
  EXPECT_THAT(message_of({"m", "--set", "weight.bits=9"}), testing::HasSubstr("allowed: 2 to 8, or 16 for none"));
  EXPECT_THAT(message_of({"m", "--prefix-count", "many"}), testing::HasSubstr("recipe field prefix.count: 'many'"));
  EXPECT_THAT(message_of({"m", "--set", "activation.granularity=token"}),
              testing::HasSubstr("static activation scales are per tensor"));
}

TEST(RecipeOptions, HelpListsEveryFieldWithValuesAndDefault) {
  CLI::App app;
  RecipeOptions options;
  add_recipe_options(app, options);
  const std::string help = app.help();
  const Recipe defaults = named_recipe(options.recipe);
  for (const RecipeField& field : recipe_fields()) {
    const Json value = field.get(defaults);
    EXPECT_THAT(help, testing::HasSubstr("  " + field.key + " ")) << field.key;
    EXPECT_THAT(help, testing::HasSubstr(fmt::format("{} (default {})", field.values,
                                                     value.is_string() ? value.get<std::string>() : value.dump())));
  }
  for (const std::string& name : recipe_names()) EXPECT_THAT(help, testing::HasSubstr(name));
}

TEST(RecipeOptions, FinetuneTakesThePapersEpochsForThePrecision) {
  EXPECT_EQ(parsed({"m", "--finetune", "--recipe", "w4a4kv4-static"}).finetune.epochs, 20);
  EXPECT_EQ(parsed({"m", "--finetune", "--recipe", "w4a8kv4-dynamic"}).finetune.epochs, 10);
  EXPECT_EQ(parsed({"m", "--finetune", "--recipe", "w2a16g128"}).finetune.epochs, 2);
  EXPECT_EQ(parsed({"m", "--finetune", "--set", "weight.bits=3"}).finetune.e2e_epochs, 2);
  EXPECT_EQ(parsed({"m", "--set", "finetune.epochs=auto", "--set", "activation.bits=8"}).finetune.epochs, 10);
  EXPECT_FALSE(parsed({"m"}).finetune.enabled());
  const Recipe chosen = parsed({"m", "--finetune", "--compute", "bf16", "--set", "finetune.epochs=3"});
  EXPECT_EQ(chosen.finetune.epochs, 3);  // a setting wins over a shortcut
  EXPECT_EQ(chosen.finetune.compute, ComputeType::bf16);
  EXPECT_THAT(message_of({"m", "--set", "finetune.epochs=-1"}), ::testing::HasSubstr("0 to 1000, or auto"));
  EXPECT_THAT(message_of({"m", "--finetune", "--set", "weight.bits=16"}), ::testing::HasSubstr("finetune.e2e_epochs"));
}

}  // namespace
}  // namespace pq
