#pragma once

#include <cstdint>
#include <span>

namespace pq {

/// Codes of 2..8 bits in a row of bytes, as quantized checkpoints store them: a little-endian bit stream in which code
/// i takes the bits [i * bits, (i + 1) * bits), its lowest bit first; bit j of the stream is bit j % 8 of byte j / 8.
/// Rows start at whole bytes; the rest of the last byte is zero. Codes are stored unsigned: symmetric ones as code +
/// 2^(bits - 1) (offset binary), asymmetric ones as they are.

/// Bytes of one row: ceil(columns * bits / 8). Throws InputError for negative or absurdly many columns, or bits not
/// in 2..8.
std::int64_t packed_row_bytes(std::int64_t columns, int bits);

/// out has packed_row_bytes(codes.size(), bits) bytes. Throws InputError for another size or a code outside its range.
void pack_row(std::span<const std::int32_t> codes, int bits, bool symmetric, std::span<std::uint8_t> out);
void pack_row(std::span<const std::int16_t> codes, int bits, bool symmetric, std::span<std::uint8_t> out);

/// The inverse. packed has packed_row_bytes(codes.size(), bits) bytes (else InputError); padding bits are not looked
/// at.
void unpack_row(std::span<const std::uint8_t> packed, int bits, bool symmetric, std::span<std::int32_t> codes);
void unpack_row(std::span<const std::uint8_t> packed, int bits, bool symmetric, std::span<std::int16_t> codes);

}  // namespace pq
