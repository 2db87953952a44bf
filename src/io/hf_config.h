#pragma once

#include <string_view>

#include "base/json.h"
#include "model/model_spec.h"

namespace pq::io {

/// A field of our own in config.json: the context that a model with two sets of rotary factors is read for.
inline constexpr std::string_view context_key = "prefixquant_context";

/// ModelSpec of a Hugging Face config.json, with the defaults of the `transformers` library for absent fields. Both
/// layouts of the rotary settings are read (`rope_theta` + `rope_scaling`, and `rope_parameters` of transformers 5).
/// Throws UnsupportedError for an architecture, a setting or a field that asks for other arithmetic, naming it;
/// FormatError for a field that is missing, of the wrong type, or contradicts another. `where` names the file.
ModelSpec parse_config(const Json& config, std::string_view where);

/// Adds the end-of-sequence ids of a generation_config.json to `spec`. Throws FormatError.
void add_generation_config(ModelSpec& spec, const Json& generation_config, std::string_view where);

}  // namespace pq::io
