#include "runtime/pack_panel.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/index.h"
#include "kernels/kernels.h"
#include "numerics/packing.h"

namespace pq::runtime {
namespace {

using kernels::column_block;
using kernels::panel_channels;

constexpr std::int64_t line_bytes = 64;

std::uint32_t load32(const unsigned char* bytes) {
  std::uint32_t word = 0;
  std::memcpy(&word, bytes, sizeof word);
  return word;
}
void store32(unsigned char* bytes, std::uint32_t word) { std::memcpy(bytes, &word, sizeof word); }

std::uint32_t sum_of_bytes(std::uint32_t word) {
  const std::uint32_t pairs = (word & 0x00ff00ffU) + ((word >> 8) & 0x00ff00ffU);
  return (pairs & 0xffffU) + (pairs >> 16);
}
std::uint32_t sum_of_nibbles(std::uint32_t word) {
  return sum_of_bytes((word & 0x0f0f0f0fU) + ((word >> 4) & 0x0f0f0f0fU));
}
std::uint32_t sum_of_crumbs(std::uint32_t word) {
  return sum_of_nibbles((word & 0x33333333U) + ((word >> 2) & 0x33333333U));
}

/// Nibbles 0 1 2 3 4 5 6 7 (columns of two quads) -> 0 4 1 5 2 6 3 7: byte i holds column i of both.
std::uint32_t interleave_nibbles(std::uint32_t w) {
  w = (w & 0xff0000ffU) | ((w & 0x0000ff00U) << 8) | ((w >> 8) & 0x0000ff00U);
  return (w & 0xf00ff00fU) | ((w & 0x00f000f0U) << 4) | ((w >> 4) & 0x00f000f0U);
}
/// 16 two-bit fields (columns of four quads), transposed as a 4 x 4 matrix: byte i holds column i of each quad.
std::uint32_t transpose_crumbs(std::uint32_t w) {
  std::uint32_t moved = ((w >> 6) ^ w) & 0x00cc00ccU;
  w ^= moved ^ (moved << 6);
  moved = ((w >> 12) ^ w) & 0x0000f0f0U;
  return w ^ moved ^ (moved << 12);
}

/// 32 codes of one channel, `4 * Bits` bytes of the checkpoint's bit stream, into the lines of a block. `target` is the
/// channel's word in the first line. Returns the sum of the codes.
template <int Bits>
std::uint32_t pack_block(const unsigned char* source, unsigned char* target) {
  std::uint32_t sum = 0;
  if constexpr (Bits == 8) {
    for (int line = 0; line < 8; ++line) {
      const std::uint32_t word = load32(source + 4 * line);
      sum += sum_of_bytes(word);
      store32(target + line_bytes * line, word);
    }
  } else if constexpr (Bits == 4) {
    for (int line = 0; line < 4; ++line) {
      const std::uint32_t word = load32(source + 4 * line);
      sum += sum_of_nibbles(word);
      store32(target + line_bytes * line, interleave_nibbles(word));
    }
  } else if constexpr (Bits == 2) {
    for (int line = 0; line < 2; ++line) {
      const std::uint32_t word = load32(source + 4 * line);
      sum += sum_of_crumbs(word);
      store32(target + line_bytes * line, transpose_crumbs(word));
    }
  } else {
    std::array<std::uint32_t, 8> words{};
    for (int eight = 0; eight < 4; ++eight) {  // 8 codes take Bits whole bytes
      std::uint64_t stream = 0;
      std::memcpy(&stream, source + Bits * eight, Bits);
      for (int i = 0; i < 8; ++i) {
        const auto code = static_cast<std::uint32_t>(stream >> (Bits * i)) & ((1U << Bits) - 1U);
        const int quad = 2 * eight + i / 4;
        const int byte = 8 * (i % 4);
        sum += code;
        if constexpr (Bits == 3) {
          words[index(quad / 4)] |= (code & 3U) << (byte + 2 * (quad % 4));
          words[2] |= (code >> 2) << (byte + quad);
        } else {
          words[index(quad)] |= code << byte;
        }
      }
    }
    for (int line = 0; line < (Bits == 3 ? 3 : 8); ++line) store32(target + line_bytes * line, words[index(line)]);
  }
  return sum;
}

template <int Bits>
void pack_rows(const CodeRows& source, std::int64_t panel, std::int64_t part, std::uint8_t* target,
               std::int32_t* sums) {
  constexpr std::int64_t source_bytes = 4 * Bits;
  constexpr std::int64_t target_bytes = packed_bits(Bits) * line_bytes;
  constexpr std::int64_t together = 4;  // blocks, so that a row is read by the cache line
  const std::int64_t row_bytes = packed_row_bytes(source.columns, Bits);
  const std::int64_t rows = std::min(panel_channels, source.channels - panel * panel_channels);
  const std::int64_t whole = source.columns / column_block;
  const std::int64_t part_blocks = part / column_block;
  const auto* first_row = reinterpret_cast<const unsigned char*>(source.codes) + panel * panel_channels * row_bytes;
  for (std::int64_t first = 0; first < whole; first += together) {
    const std::int64_t last = std::min(first + together, whole);
    for (std::int64_t row = 0; row < rows; ++row) {
      for (std::int64_t block = first; block < last; ++block) {
        const std::uint32_t sum = pack_block<Bits>(first_row + row * row_bytes + block * source_bytes,
                                                   target + block * target_bytes + 4 * row);
        sums[block / part_blocks * panel_channels + row] += static_cast<std::int32_t>(sum);
      }
    }
  }
  const std::int64_t rest = source.columns % column_block;
  if (rest == 0) return;
  const std::int64_t rest_bytes = (rest * Bits + 7) / 8;
  for (std::int64_t row = 0; row < rows; ++row) {
    std::array<unsigned char, 4 * Bits + 8> tail{};
    std::memcpy(tail.data(), first_row + row * row_bytes + whole * source_bytes, index(rest_bytes));
    if (rest * Bits % 8 != 0) tail[index(rest_bytes - 1)] &= static_cast<unsigned char>((1U << (rest * Bits % 8)) - 1U);
    const std::uint32_t sum = pack_block<Bits>(tail.data(), target + whole * target_bytes + 4 * row);
    sums[whole / part_blocks * panel_channels + row] += static_cast<std::int32_t>(sum);
  }
}

using PackRows = void (*)(const CodeRows&, std::int64_t, std::int64_t, std::uint8_t*, std::int32_t*);
constexpr std::array<PackRows, 9> rows_of_bits{nullptr,      nullptr,      pack_rows<2>, pack_rows<3>, pack_rows<4>,
                                               pack_rows<5>, pack_rows<6>, pack_rows<7>, pack_rows<8>};

}  // namespace

void pack_panel(const CodeRows& source, std::int64_t panel, std::int64_t part, std::uint8_t* target,
                std::int32_t* sums) {
  rows_of_bits[index(source.bits)](source, panel, part, target, sums);
}

}  // namespace pq::runtime
