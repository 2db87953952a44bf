#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "model/model_spec.h"

namespace pq {

/// Which recipe makes a checkpoint of this model that another program's files hold without loss.
struct ExportRecipe {
  std::string recipe;                 ///< a name of recipe_names()
  std::vector<std::string> settings;  ///< "key=value", for this model
  std::vector<std::string> given_up;  ///< what the method has beyond that, for people
};

/// The programs that there is a choice for.
std::vector<std::string> export_programs();

/// Throws InputError ("did you mean") for another program, UnsupportedError for a model whose layers no group of the
/// program's divides.
ExportRecipe export_recipe(std::string_view program, const ModelSpec& spec, std::string_view where);

}  // namespace pq
