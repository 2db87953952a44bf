#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "model/model_spec.h"

namespace pq::measure {

/// Architectures by name, as their published config.json files describe them, for measuring with random weights.
std::vector<std::string> shape_names();

/// "NAME/llama" has the sizes of NAME and Llama's arithmetic, to compare with. Throws InputError ("did you mean") for
/// an unknown name.
ModelSpec named_shape(std::string_view name);

}  // namespace pq::measure
