#include "model/recipe.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/suggest.h"

namespace pq {
namespace {

Recipe weight_activation(std::string name, int weight, int activation, int kv, ScaleMode mode) {
  Recipe recipe;
  recipe.name = std::move(name);
  const bool fixed = mode == ScaleMode::static_scale;
  recipe.weight.bits = weight;
  recipe.activation.bits = activation;
  recipe.activation.mode = mode;
  recipe.activation.granularity = fixed ? Granularity::tensor : Granularity::token;
  recipe.kv.bits = kv;
  recipe.kv.mode = mode;
  recipe.kv.granularity = fixed ? Granularity::head : Granularity::group;
  recipe.kv_center_keys = kv <= 4;
  recipe.kv_balance_keys = kv <= 4;
  recipe.rotate.heads = activation <= 4;  // at 8 bits the weights lose what the activations gain
  return recipe;
}

Recipe weight_only(std::string name, int weight, std::int64_t group) {
  Recipe recipe;
  recipe.name = std::move(name);
  recipe.weight = {weight, false, ScaleMode::static_scale, Granularity::group, group};
  recipe.rotate.r3 = false;
  recipe.rotate.r4 = false;
  recipe.finetune.samples = 4096;  // the paper's section F
  recipe.finetune.length = 2048;
  return recipe;
}

/// Weights alone, in a form that another program's file holds without loss: docs/export.md.
Recipe for_export(std::string name, int weight, bool symmetric, std::int64_t group) {
  Recipe recipe = weight_only(std::move(name), weight, group);
  recipe.weight.symmetric = symmetric;
  recipe.weight.scale_type = ScaleType::f16;
  return recipe;
}

/// Integer products as vLLM has them: no rotation while the model runs, nothing but the scale of a row, which takes a
/// token's largest value as it is.
Recipe w8a8_for_export(std::string name, ScaleMode mode) {
  Recipe recipe = weight_activation(std::move(name), 8, 8, 16, mode);
  recipe.search.activation = mode == ScaleMode::static_scale;
  recipe.rotate.r3 = false;
  recipe.rotate.r4 = false;
  return recipe;
}

/// Symmetric, as vLLM's W4A8 asks for.
Recipe w4a8_for_export(std::string name, std::int64_t group) {
  Recipe recipe = w8a8_for_export(std::move(name), ScaleMode::dynamic_scale);
  recipe.weight = {4, true, ScaleMode::static_scale, Granularity::group, group};
  recipe.weight.scale_type = ScaleType::f16;
  return recipe;
}

/// QoQ's weight groups under integer products (arXiv 2405.04532).
Recipe two_level(std::string name, std::int64_t group, int activation, ScaleMode mode) {
  Recipe recipe = weight_activation(std::move(name), 4, activation, 4, mode);
  recipe.weight.symmetric = false;
  recipe.weight.granularity = Granularity::group;
  recipe.weight.group = group;
  recipe.weight.two_level = true;
  return recipe;
}

const std::vector<Recipe>& built_in() {
  static const std::vector<Recipe> recipes{
      weight_activation("w4a4kv4-static", 4, 4, 4, ScaleMode::static_scale),
      weight_activation("w4a4kv4-dynamic", 4, 4, 4, ScaleMode::dynamic_scale),
      weight_activation("w4a8kv4-static", 4, 8, 4, ScaleMode::static_scale),
      weight_activation("w4a8kv4-dynamic", 4, 8, 4, ScaleMode::dynamic_scale),
      two_level("w4g32a8kv4-static", 32, 8, ScaleMode::static_scale),
      two_level("w4g32a8kv4-dynamic", 32, 8, ScaleMode::dynamic_scale),
      two_level("w4g64a8kv4-static", 64, 8, ScaleMode::static_scale),
      two_level("w4g64a8kv4-dynamic", 64, 8, ScaleMode::dynamic_scale),
      two_level("w4g128a8kv4-static", 128, 8, ScaleMode::static_scale),
      two_level("w4g128a8kv4-dynamic", 128, 8, ScaleMode::dynamic_scale),
      two_level("w4g32a4kv4-static", 32, 4, ScaleMode::static_scale),
      two_level("w4g32a4kv4-dynamic", 32, 4, ScaleMode::dynamic_scale),
      two_level("w4g64a4kv4-static", 64, 4, ScaleMode::static_scale),
      two_level("w4g64a4kv4-dynamic", 64, 4, ScaleMode::dynamic_scale),
      weight_activation("w8a8kv8-static", 8, 8, 8, ScaleMode::static_scale),
      weight_activation("w8a8kv8-dynamic", 8, 8, 8, ScaleMode::dynamic_scale),
      weight_only("w4a16g128", 4, 128),
      weight_only("w3a16g128", 3, 128),
      weight_only("w2a16g128", 2, 128),
      for_export("w4a16g32-gguf", 4, true, 32),
      for_export("w4a16g32-asym-gguf", 4, false, 32),
      for_export("w8a16g32-gguf", 8, true, 32),
      for_export("w2a16g64-gguf", 2, true, 64),
      for_export("w4a16g128-ct", 4, false, 128),
      for_export("w4a16g64-ct", 4, false, 64),
      for_export("w4a16g32-ct", 4, false, 32),
      w8a8_for_export("w8a8-ct", ScaleMode::dynamic_scale),
      w8a8_for_export("w8a8-static-ct", ScaleMode::static_scale),
      w4a8_for_export("w4a8-ct", 128),
  };
  return recipes;
}

}  // namespace

std::vector<std::string> recipe_names() {
  std::vector<std::string> names;
  for (const Recipe& recipe : built_in()) names.push_back(recipe.name);
  return names;
}

Recipe named_recipe(std::string_view name) {
  for (const Recipe& recipe : built_in()) {
    if (recipe.name == name) return recipe;
  }
  throw InputError(fmt::format("recipe '{}'", name), "there is no recipe of this name",
                   did_you_mean(name, recipe_names()));
}

const std::vector<Budget>& budgets() {
  static const std::vector<Budget> rows{
      {"fast",
       "a quarter of the tokens: to try something",
       {"calibration.samples=16", "search.samples=2", "search.gptq_samples=0"}},
      {"normal", "the defaults", {}},
      {"best",
       "GPTQ on 128 sequences of 2048 tokens, as the field does",
       {"calibration.samples=64", "search.gptq_samples=128", "search.gptq_length=2048"}},
  };
  return rows;
}

const Budget& named_budget(std::string_view name) {
  std::vector<std::string> names;
  for (const Budget& budget : budgets()) {
    if (budget.name == name) return budget;
    names.push_back(budget.name);
  }
  throw InputError(fmt::format("--budget {}", name), "there is no budget of this name", did_you_mean(name, names));
}

const RecipeField* find_recipe_field(std::string_view key) {
  for (const RecipeField& field : recipe_fields()) {
    if (field.key == key) return &field;
  }
  return nullptr;
}

std::int64_t recommended_epochs(const Recipe& recipe) {
  if (!recipe.activation.enabled()) return 2;
  return recipe.activation.bits <= 4 ? 20 : 10;
}

std::string precision_name(const Recipe& recipe) {
  std::string name = fmt::format("W{}A{}", recipe.weight.bits, recipe.activation.bits);
  if (recipe.kv.enabled()) name += fmt::format("KV{}", recipe.kv.bits);
  if (recipe.weight.granularity == Granularity::group) name += fmt::format("g{}", recipe.weight.group);
  if (!recipe.overrides.empty()) name += " mixed";
  return name;
}

}  // namespace pq
