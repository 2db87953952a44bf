#include "numerics/packing.h"

#include <fmt/format.h>

#include <limits>
#include <string_view>

#include "base/error.h"
#include "numerics/quantize.h"

namespace pq {
namespace {

constexpr std::string_view where = "packed codes";

void check_row(std::size_t columns, int bits, std::size_t bytes) {
  const std::int64_t expected = packed_row_bytes(static_cast<std::int64_t>(columns), bits);
  if (bytes != static_cast<std::size_t>(expected)) {
    throw InputError(where, fmt::format("{} codes of {} bits take {} bytes, not {}", columns, bits, expected, bytes));
  }
}

template <typename Code>
void pack(std::span<const Code> codes, int bits, bool symmetric, std::span<std::uint8_t> out) {
  check_row(codes.size(), bits, out.size());
  const QuantRange range = quant_range(bits, symmetric);
  std::uint32_t pending = 0;
  int pending_bits = 0;
  std::size_t written = 0;
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const std::int32_t code = codes[i];
    if (code < range.low || code > range.high) {
      throw InputError(where, fmt::format("code {} at position {} is not in {}..{}", code, i, range.low, range.high));
    }
    pending |= static_cast<std::uint32_t>(code - range.low) << pending_bits;
    pending_bits += bits;
    if (pending_bits >= 8) {
      out[written++] = static_cast<std::uint8_t>(pending);
      pending >>= 8;
      pending_bits -= 8;
    }
  }
  if (pending_bits > 0) out[written] = static_cast<std::uint8_t>(pending);
}

template <typename Code>
void unpack(std::span<const std::uint8_t> packed, int bits, bool symmetric, std::span<Code> codes) {
  check_row(codes.size(), bits, packed.size());
  const std::int32_t low = quant_range(bits, symmetric).low;
  const std::uint32_t mask = (1U << bits) - 1;
  std::uint32_t pending = 0;
  int pending_bits = 0;
  std::size_t read = 0;
  for (Code& code : codes) {
    if (pending_bits < bits) {
      pending |= static_cast<std::uint32_t>(packed[read++]) << pending_bits;
      pending_bits += 8;
    }
    code = static_cast<Code>(static_cast<std::int32_t>(pending & mask) + low);
    pending >>= bits;
    pending_bits -= bits;
  }
}

}  // namespace

std::int64_t packed_row_bytes(std::int64_t columns, int bits) {
  quant_range(bits, false);
  if (columns < 0 || columns > (std::numeric_limits<std::int64_t>::max() - 7) / bits) {
    throw InputError(where, fmt::format("a row of {} codes is not possible", columns));
  }
  return (columns * bits + 7) / 8;
}

void pack_row(std::span<const std::int32_t> codes, int bits, bool symmetric, std::span<std::uint8_t> out) {
  pack(codes, bits, symmetric, out);
}
void pack_row(std::span<const std::int16_t> codes, int bits, bool symmetric, std::span<std::uint8_t> out) {
  pack(codes, bits, symmetric, out);
}
void unpack_row(std::span<const std::uint8_t> packed, int bits, bool symmetric, std::span<std::int32_t> codes) {
  unpack(packed, bits, symmetric, codes);
}
void unpack_row(std::span<const std::uint8_t> packed, int bits, bool symmetric, std::span<std::int16_t> codes) {
  unpack(packed, bits, symmetric, codes);
}

}  // namespace pq
