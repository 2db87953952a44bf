#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "io/model_source.h"
#include "model/model_spec.h"
#include "model/recipe.h"

namespace pq::runtime {

using io::BlockSource;
using io::ModelSource;

/// A checkpoint whose shape is within the runtime's limits. Throws as Model::load.
ModelSource open_model(const std::string& model, std::int64_t context = 0);
/// Throws as Model::random.
ModelSource random_source(const ModelSpec& spec, const Recipe& recipe, std::int64_t prefix_tokens);

/// Throws UnsupportedError for a shape that is beyond the runtime; `where` names the model.
void check_shape(const ModelSpec& spec, std::string_view where);

}  // namespace pq::runtime
