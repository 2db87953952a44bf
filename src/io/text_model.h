#pragma once

#include <memory>

#include "base/json.h"
#include "io/safetensors.h"

namespace pq::io {

/// The language model's config.json where `config` is of a model for text and images that holds one (`text_config`, as
/// Gemma 3 from 4B on has it); else `config` as it is.
Json text_model_config(Json config);

/// The language model's tensors by the names that they have in a model with its head that stands alone
/// (`model.layers.0.` and so on): the names that a base model, a model for text and images or a wrapped one gives them
/// are such names with other beginnings. `tensors` as they are where all names are so. Throws FormatError where two
/// tensors of different values come to one name.
std::shared_ptr<const TensorStore> text_model_tensors(std::shared_ptr<const TensorStore> tensors);

}  // namespace pq::io
