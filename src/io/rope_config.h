#pragma once

#include <cstdint>
#include <optional>

#include "io/config_fields.h"
#include "model/model_spec.h"

namespace pq::io {

/// What a config.json says of rotary embeddings.
struct RopeSettings {
  RopeSpec full;
  std::optional<RopeSpec> sliding;    ///< of blocks with a window, where the family has another one there
  std::optional<std::int64_t> width;  ///< channels of a head that turn; nullopt: all
  std::int64_t max_positions = 0;     ///< the context that these embeddings are for
};

/// Reads `rope_theta` + `rope_scaling`, or `rope_parameters` of transformers 5, which may hold one object for each of
/// `layer_types`. `spec` has family, head_dim and max_positions. LongRoPE has two lists of factors, for contexts up to
/// the original one and beyond, and K that was cached with one is wrong under the other: the model is read with the
/// short ones, for the original context, unless `context` is beyond that. Throws UnsupportedError for a kind or field
/// that is not known, FormatError for one that is missing or contradicts another.
RopeSettings read_ropes(const Fields& fields, const ModelSpec& spec, std::int64_t context);

}  // namespace pq::io
