#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "model/block_layout.h"
#include "model/site_transform.h"

namespace pq {

/// A linear layer as a quantized checkpoint holds it. With weight bits 16 only `weight` (and `bias`) is filled.
struct QuantizedLinear {
  std::vector<std::uint8_t> codes;         ///< [out, row_bytes]: each row's codes, packed (numerics/packing.h)
  std::vector<float> scales;               ///< [out, ceil(in / group)]; [out, 1] for per-channel and two-level scales
  std::vector<std::uint8_t> group_scales;  ///< [out, ceil(in / group)] for two-level scales; else empty
  std::vector<std::int16_t> zero_points;   ///< [out, ceil(in / group)]; empty when symmetric
  std::vector<std::uint16_t> weight;       ///< [out, in] binary16, unquantized
  std::vector<float> bias;                 ///< [out]; empty without bias
};

/// An activation or KV quantizer. Static: `scale` (and `zero_point`) hold one value a tensor, or one a KV head.
/// Dynamic: `clip` holds the factors applied to the maximum (gamma) and the minimum (beta) of each slice.
struct SiteQuantizer {
  std::vector<float> scale;
  std::vector<std::int16_t> zero_point;
  std::array<float, 2> clip{1.0F, 1.0F};
};

struct QuantizedBlock {
  PerNorm<std::vector<float>> norms;  ///< what the normalized stream is multiplied by: ones after fusing
  PerLinear<QuantizedLinear> linears;
  PerSite<SiteQuantizer> sites;
  /// [kv_heads, head_dim, head_dim]: what is done to a head's row of K behind its transform (model/key_basis.h); empty:
  /// nothing
  std::vector<float> key_basis;
  std::vector<float> key_mean;  ///< [kv_heads, head_dim], taken out of K before it is quantized; empty: nothing is
  SiteTransforms transforms;
};

/// The fixed prefix: for each block, K (after RoPE, what k_cache does online, in key_basis and without the mean) and V
/// (in the R2 basis) of `length` positions, 16-bit for ever, and the tokens they come from, where they come from
/// tokens.
struct Prefix {
  std::int64_t length = 0;              ///< positions in front of every sequence; 0: no prefix
  std::vector<std::int32_t> token_ids;  ///< [length], or empty: not known
  struct BlockKv {
    std::vector<std::uint16_t> key;    ///< [kv_heads, length, head_dim] binary16
    std::vector<std::uint16_t> value;  ///< [kv_heads, length, head_dim] binary16
  };
  std::vector<BlockKv> blocks;  ///< one a block; none without a prefix

  bool empty() const { return length == 0; }
};

}  // namespace pq
