#include "lab/compare_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace pq::lab {
namespace {

Recipe with(Recipe recipe, const std::vector<const char*>& settings) {
  for (const char* setting : settings) apply_setting(recipe, setting);
  return recipe;
}

const std::vector<const char*> no_rotation{"rotate.r1=false", "rotate.r2=false", "rotate.r3=false", "rotate.r4=false",
                                           "rotate.heads=false"};
const std::vector<const char*> no_gptq{"search.gptq=false"};
const std::vector<const char*> no_search{"search.weight=false", "search.activation=false", "search.kv=false",
                                         "search.gptq=false"};
const std::vector<const char*> no_prefix{"prefix.tokens=none"};

std::string activation_name(const Recipe& recipe) {
  if (!recipe.activation.enabled()) return "none";
  return recipe.activation.is_static() ? "static" : "dynamic";
}

}  // namespace

std::string ComparedRow::title() const {
  return quantized ? fmt::format("{} {}, {}", precision_name(recipe()), name, activation) : name;
}

ComparedRow quantized_row(std::string name, Recipe recipe) {
  ComparedRow row{std::move(name), activation_name(recipe), true, {}};
  row.runs.push_back({std::move(recipe)});
  return row;
}

std::vector<ComparedRow> baseline_rows(const Recipe& recipe) {
  Recipe plain = recipe;
  plain.prefix.tokens = "none";
  std::vector<ComparedRow> rows{{"FP16", "none", false, {{std::move(plain)}}},
                                {"FP16 + prefix", "none", false, {{recipe}}}};
  rows.front().whole = true;
  return rows;
}

std::vector<ComparedRow> ladder_rows(const RecipeOptions& options, const std::string& precision) {
  const auto names = recipe_names();
  const auto recipe_of = [&](const std::string& name) {
    RecipeOptions one = options;
    one.recipe = name;
    return resolve(one);
  };
  const bool has_modes = std::find(names.begin(), names.end(), precision + "-static") != names.end();
  const Recipe base = recipe_of(has_modes ? precision + "-dynamic" : precision);
  std::vector<ComparedRow> rows;
  rows.push_back(quantized_row("RTN", with(with(with(base, no_rotation), no_search), no_prefix)));
  rows.push_back(quantized_row("+ rotation", with(with(base, no_search), no_prefix)));
  rows.push_back(quantized_row("+ grid search", with(with(base, no_gptq), no_prefix)));
  rows.push_back(quantized_row("+ prefix", with(base, no_gptq)));
  rows.push_back(quantized_row("+ GPTQ", base));
  rows.back().whole = true;
  if (has_modes) {
    const Recipe fixed = recipe_of(precision + "-static");
    rows.push_back(quantized_row("+ static quantization", with(with(fixed, no_gptq), no_prefix)));
    rows.push_back(quantized_row("+ prefix", with(fixed, no_gptq)));
    rows.push_back(quantized_row("+ GPTQ", fixed));
    rows.back().whole = true;
  }
  return rows;
}

void repeat_over_seeds(std::vector<ComparedRow>& rows, int seeds) {
  for (ComparedRow& row : rows) {
    if (!row.quantized && row.recipe().prefix.tokens == "none") continue;
    for (int seed = 1; seed < seeds; ++seed) {
      Recipe recipe = row.recipe();
      recipe.seed += static_cast<std::uint64_t>(seed);
      row.runs.push_back({std::move(recipe)});
    }
  }
}

OverSeeds over_seeds(const std::vector<double>& values) {
  const auto count = static_cast<double>(values.size());
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / count;
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return {mean, values.size() < 2 ? 0 : std::sqrt(squares / (count - 1))};
}

}  // namespace pq::lab
