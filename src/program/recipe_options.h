#pragma once

#include <string>
#include <vector>

#include "model/recipe.h"

namespace CLI {
class App;
}

namespace pq {

/// The flags that make a Recipe, as they stood on the command line.
struct RecipeOptions {
  std::string recipe = "w4a4kv4-static";  ///< a name of recipe_names()
  std::string budget = "normal";          ///< a name of budgets()
  std::vector<std::string> shortcuts;     ///< "key=value" for --no-rotate, --prefix and the like
  std::vector<std::string> settings;      ///< "key=value" of each --set, in order
};

/// Declares --recipe, --budget, --set and the shortcuts, and appends the table of recipes and fields to the help text.
/// `options` must outlive the parsing.
void add_recipe_options(CLI::App& app, RecipeOptions& options);

/// The named recipe, then the budget, the shortcuts, then --set in order; validated. Throws InputError ("did you mean"
/// where it can).
Recipe resolve(const RecipeOptions& options);

}  // namespace pq
