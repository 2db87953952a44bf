#pragma once

#include <bit>
#include <cstdint>

namespace pq {

/// bfloat16 bits -> float32, exact.
inline float bf16_to_float(std::uint16_t bits) noexcept {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

/// float32 -> bfloat16 bits, round half to even; NaN stays a (quiet) NaN, overflow becomes infinity.
inline std::uint16_t float_to_bf16(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return static_cast<std::uint16_t>((bits >> 16) | 0x40U);
  return static_cast<std::uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

/// IEEE binary16 bits -> float32, exact (subnormals included).
float f16_to_float(std::uint16_t bits) noexcept;

/// float32 -> IEEE binary16 bits, round half to even; overflow becomes infinity.
std::uint16_t float_to_f16(float value) noexcept;

}  // namespace pq
