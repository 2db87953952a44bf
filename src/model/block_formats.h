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
  /// Whether each channel's mean over the calibration is taken out of every head's K, behind RoPE and transform, before
  /// K is quantized. It adds the same to all scores of a query, which softmax does not see ("smoothing K",
  /// SageAttention, arXiv 2410.02367). It is measured where K's scales are searched.
  bool center_keys = false;
  /// Whether every KV head's K, behind RoPE and transform, is multiplied with a matrix T of its own and the Q that read
  /// it with T^-T, so that scores stay, T such that both have the same covariance, alike in all channels: of all T it
  /// leaves least of K's rounding in the scores. Measured as the mean is, which is taken out behind it.
  bool balance_keys = false;

  bool quantizes_weights() const;  ///< some linear layer's
  bool quantizes_sites() const;    ///< some activation, K or V
  bool operator==(const BlockFormats&) const = default;
};

/// The formats of block `index`, of a recipe that validate_recipe() passed.
BlockFormats block_formats(const Recipe& recipe, std::int64_t index);

/// The same as a recipe says them, before it is known that linear layers that read the same tensor agree.
struct LinearFormats {
  PerLinear<QuantizerFormat> weight;
  PerLinear<QuantizerFormat> activation;
  QuantizerFormat kv;
  bool kv_center_keys = false;
  bool kv_balance_keys = false;
};
LinearFormats linear_formats(const Recipe& recipe, std::int64_t index);

/// The first block of each run of blocks of which the same overrides speak, in ascending order. How many blocks the
/// model has is not asked.
std::vector<std::int64_t> first_blocks_of_kinds(const Recipe& recipe);
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
