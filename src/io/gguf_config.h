#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>

#include "base/json.h"
#include "io/gguf_metadata.h"

namespace pq::io {

/// The tensor of this GGUF name, or nothing.
using GgufTensor = std::function<std::optional<TensorView>(std::string_view)>;

/// The config.json of the model that a GGUF file came from, as far as its metadata and its rope tensors tell it.
/// Throws UnsupportedError (architecture, experts, a rope scaling that is not known, each by name) and FormatError (a
/// key that is missing or of another type).
Json gguf_config(const GgufMetadata& metadata, const GgufTensor& tensor);
/// Its generation_config.json: every token that ends a text.
Json gguf_generation_config(const GgufMetadata& metadata);

}  // namespace pq::io
