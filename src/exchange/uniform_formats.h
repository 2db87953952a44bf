#pragma once

#include <string>

#include "model/model_spec.h"
#include "model/recipe.h"

namespace pq::exchange {

/// Files of other programs are written with one format for all linear layers. Throws UnsupportedError that names the
/// first layer whose weights, or with `activations` whose inputs, have another than the recipe's.
void refuse_mixed_formats(const ModelSpec& spec, const Recipe& recipe, bool activations, const std::string& where);

}  // namespace pq::exchange
