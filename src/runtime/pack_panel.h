#pragma once

#include <cstddef>
#include <cstdint>

namespace pq::runtime {

/// Width of a packed code: 5 to 7 bits are kept in 8.
constexpr int packed_bits(int bits) { return bits <= 4 ? bits : 8; }

/// Codes as a checkpoint holds them (numerics/packing.h).
struct CodeRows {
  const std::byte* codes;  ///< [channels, packed_row_bytes(columns, bits)]
  std::int64_t channels;
  std::int64_t columns;
  int bits;  ///< 2..8
};

/// The 16 rows of one panel (fewer in the last one) as kernels::IntWeights has them, with packed_bits(bits). `target`
/// is the panel, zeroed. sums [parts][16] is raised by the sums of the codes of every `part` columns, a multiple of
/// kernels::column_block.
void pack_panel(const CodeRows& source, std::int64_t panel, std::int64_t part, std::uint8_t* target,
                std::int32_t* sums);

}  // namespace pq::runtime
