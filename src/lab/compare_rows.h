#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "eval/perplexity.h"
#include "model/recipe.h"
#include "program/recipe_options.h"

namespace pq::lab {

/// A row quantized with one seed, and what was measured of it.
struct ComparedRun {
  Recipe recipe;
  std::vector<std::int32_t> prefix = {};
  std::string prefix_text = {};
  double quantize_seconds = 0;
  std::vector<eval::ComparisonResult> results = {};  ///< one a length
  std::size_t evaluation = 0;                        ///< which model tasks::Evaluation had it for
};

/// A line of the table: what to quantize, or the unquantized model (with a prefix, when its recipe has one).
struct ComparedRow {
  std::string name;
  std::string activation;  ///< "dynamic", "static", or "none"
  bool quantized = true;
  std::vector<ComparedRun> runs;               ///< one a seed
  bool whole = false;                          ///< a recipe with all of its steps
  std::optional<double> bits_per_weight = {};  ///< of its linear layers, scales and zero points included
  std::optional<double> tokens_per_second = {};
  double tokens_per_second_spread = 0;  ///< half of largest less smallest

  const Recipe& recipe() const { return runs.front().recipe; }
  /// "W4A4KV4 + prefix, static"
  std::string title() const;
};

ComparedRow quantized_row(std::string name, Recipe recipe);
/// The unquantized model, without a prefix and behind the recipe's.
std::vector<ComparedRow> baseline_rows(const Recipe& recipe);
/// The steps of the paper's Table 5 for one precision ("w4a4kv4"), dynamic and static.
std::vector<ComparedRow> ladder_rows(const RecipeOptions& options, const std::string& precision);
/// Every quantized row, and the unquantized one behind a prefix that is searched, once more for each further seed.
void repeat_over_seeds(std::vector<ComparedRow>& rows, int seeds);

/// Mean over seeds, and the sample standard deviation (0 for one seed).
struct OverSeeds {
  double mean = 0;
  double deviation = 0;
};
OverSeeds over_seeds(const std::vector<double>& values);

}  // namespace pq::lab
