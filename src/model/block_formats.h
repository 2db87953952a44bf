#pragma once

#include <cstdint>
#include <vector>

#include "model/block_layout.h"
#include "model/recipe.h"

namespace pq {

/// What a recipe gives one block: the format of each linear layer's weights, of what the linear layers read, and of K
/// and V. Code that has a block at hand asks for these, never for the recipe's own weight, activation and kv.
struct BlockFormats {
  PerLinear<QuantizerFormat> weight;
  PerSite<QuantizerFormat> site;  ///< kv at the caches, activation at the inputs of linear layers
  bool center_keys = false;       ///< see centers_keys()

  bool quantizes_weights() const;  ///< some linear layer's
  bool quantizes_sites() const;    ///< some activation, K or V
  bool operator==(const BlockFormats&) const = default;
};

/// The formats of block `index`.
BlockFormats block_formats(const Recipe& recipe, std::int64_t index);

/// The formats that blocks have, each once.
std::vector<BlockFormats> distinct_formats(const Recipe& recipe);

/// Whether some block has quantized weights, linear inputs, or K and V.
bool quantizes_weights(const Recipe& recipe);
bool quantizes_activations(const Recipe& recipe);
bool quantizes_kv(const Recipe& recipe);
/// Whether some block has a static activation or KV scale, so that a range has to be measured.
bool has_static_scales(const Recipe& recipe);
/// Whether some block has activation scales that all rows of a call share, so that what is computed together counts.
bool has_scales_of_a_call(const Recipe& recipe);

}  // namespace pq
