#pragma once

#include <cstdint>

namespace pq::quant {

/// x seen as [outer, slices, inner], row-major: slice i of every outer row shares scale i.
/// weights: {1, out*groups, group}; a static tensor: {1, 1, numel}; static K/V: {tokens, kv_heads, head_dim};
/// dynamic: {1, slices, inner}.
struct SliceLayout {
  std::int64_t outer = 1;
  std::int64_t slices = 1;
  std::int64_t inner = 1;
};

}  // namespace pq::quant
