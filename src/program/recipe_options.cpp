#include "program/recipe_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>

#include "model/format_override.h"
#include "program/command_line.h"

namespace pq {
namespace {

/// A flag that stands for one or more settings.
struct Shortcut {
  struct Setting {
    const char* key;
    const char* value;  ///< empty: what follows the flag on the command line
  };
  const char* flag;
  const char* value_name;
  const char* help;
  std::vector<Setting> settings;
};

const std::vector<Shortcut>& shortcuts() {
  static const std::vector<Shortcut> rows{
      {"--no-rotate",
       "",
       "Without the rotations",
       {{"rotate.r1", "false"},
        {"rotate.r2", "false"},
        {"rotate.r3", "false"},
        {"rotate.r4", "false"},
        {"rotate.heads", "false"}}},
      {"--no-search",
       "",
       "Without grid search and GPTQ: min-max scales, nearest codes",
       {{"search.weight", "false"}, {"search.activation", "false"}, {"search.kv", "false"}, {"search.gptq", "false"}}},
      {"--prefix", "TOKENS", "auto, none, ids:1,2, random:N, top1:N, or text", {{"prefix.tokens", ""}}},
      {"--prefix-count", "N", "Number of prefix tokens, BOS included", {{"prefix.count", ""}}},
      {"--finetune",
       "",
       "Fine-tune block by block for as many epochs as the paper (20 for 4-bit activations, 10 for wider ones, 2 for "
       "weights alone), then weight scales end to end (2 epochs)",
       {{"finetune.epochs", "auto"}, {"finetune.e2e_epochs", "2"}}},
      {"--compute", "TYPE", "Arithmetic of a training step: float32 or bf16", {{"finetune.compute", ""}}},
      {"--seed", "N", "Seed of everything random; the same seed gives the same bytes", {{"seed", ""}}},
  };
  return rows;
}

std::string plain(const Json& value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

std::string recipe_table(const std::string& default_name) {
  const Recipe defaults = named_recipe(default_name);
  std::string text = fmt::format("Recipes: {}\n\nFields of a recipe, for --set KEY=VALUE (default: that of {}):",
                                 fmt::join(recipe_names(), ", "), default_name);
  for (const RecipeField& field : recipe_fields()) {
    text += fmt::format("\n  {:<24} {}\n  {:<24}   {} (default {})", field.key, field.help, "", field.values,
                        plain(field.get(defaults)));
  }
  std::vector<std::string_view> linears;
  for (const LinearId linear : all_linears) linears.push_back(linear_name(linear));
  text += fmt::format(
      "\n\nFormats of some blocks or linear layers: --set [blocks.FIRST-LAST.][linear.NAME.]KEY=VALUE, for the KEYs "
      "weight.*,"
      "\nactivation.* and kv.* (K and V of blocks only). Blocks count from 0, one number is one block; NAME is one "
      "of\n{}."
      "\nThey stand on top of the fields above; where two speak of the same, the later one wins.\n"
      "  --set linear.down_proj.weight.bits=8 --set blocks.0-1.activation.bits=8 --set "
      "blocks.3.linear.o_proj.weight.bits=16",
      fmt::join(linears, ", "));
  return text;
}

}  // namespace

void add_recipe_options(CLI::App& app, RecipeOptions& options) {
  const std::string group = "Recipe";
  app.add_option("--recipe", options.recipe, "What to quantize to; the names are listed below")
      ->option_text(fmt::format("NAME (default {})", options.recipe))
      ->group(group);
  std::vector<std::string> rows;
  for (const Budget& row : budgets()) rows.push_back(fmt::format("{} ({})", row.name, row.help));
  app.add_option("--budget", options.budget,
                 fmt::format("How long it may take: {}; --set goes on from there", fmt::join(rows, ", ")))
      ->option_text(fmt::format("NAME (default {})", options.budget))
      ->group(group);
  app.add_option(
         "--set", options.settings,
         "Set one field of the recipe, or a format of some blocks or linear layers; may be repeated, the last one wins")
      ->option_text("KEY=VALUE")
      ->allow_extra_args(false)
      ->group(group);
  for (const Shortcut& row : shortcuts()) {
    const auto apply = [&options, &row](const std::string& given) {
      for (const auto& [key, value] : row.settings) {
        options.shortcuts.push_back(fmt::format("{}={}", key, *value != '\0' ? value : given.c_str()));
      }
    };
    if (*row.value_name == '\0') {
      app.add_flag_callback(
             row.flag, [apply] { apply(""); }, row.help)
          ->group(group);
    } else {
      app.add_option_function<std::string>(row.flag, apply, row.help)->option_text(row.value_name)->group(group);
    }
  }
  add_help_text(app, recipe_table(options.recipe));
}

Recipe resolve(const RecipeOptions& options) {
  Recipe recipe = named_recipe(options.recipe);
  for (const std::string& setting : named_budget(options.budget).settings) apply_setting(recipe, setting);
  for (const std::string& setting : options.shortcuts) apply_setting(recipe, setting);
  for (const std::string& setting : options.settings) apply_setting(recipe, setting);
  if (recipe.finetune.epochs < 0) recipe.finetune.epochs = recommended_epochs(recipe);
  validate_recipe(recipe);
  return recipe;
}

}  // namespace pq
