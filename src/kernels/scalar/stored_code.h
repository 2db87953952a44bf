#pragma once

#include "kernels/kernels.h"

namespace pq::kernels::scalar {

/// Column `column` of channel `channel` of a packed panel, as it is stored (see IntWeights).
inline std::int32_t stored_code(const std::uint8_t* panel, int bits, std::int64_t column, std::int64_t channel) {
  const std::uint8_t* block = panel + column / column_block * 64 * bits;
  const auto quad = static_cast<int>(column % column_block / 4);
  const std::int64_t byte = channel * 4 + column % 4;
  switch (bits) {
    case 8:
      return block[quad * 64 + byte];
    case 4:
      return (block[quad / 2 * 64 + byte] >> (quad % 2 * 4)) & 15;
    default:
      break;
  }
  const int low = (block[quad / 4 * 64 + byte] >> (quad % 4 * 2)) & 3;
  return bits == 2 ? low : low | (((block[128 + byte] >> quad) & 1) << 2);
}

}  // namespace pq::kernels::scalar
