#include <cstddef>

#include "kernels/scalar/scalar.h"

// Loops like those of the scalar kernels, over what fits in the first cache.

namespace pq::kernels::scalar {

double int8_peak(std::int64_t rounds) noexcept {
  constexpr std::size_t columns = 4096;
  static constexpr std::uint8_t codes[columns] = {3, 1, 2};
  std::int8_t row[columns] = {1, 2, 3};
  std::int32_t sum = 0;
  for (std::int64_t round = 0; round < rounds; ++round) {
    asm volatile("" : : "r"(row) : "memory");  // the same row again, for all that the compiler knows a new one
    for (std::size_t i = 0; i < columns; ++i) sum += std::int32_t{codes[i]} * row[i];
  }
  asm volatile("" : : "r"(sum));
  return static_cast<double>(rounds) * columns * 2;
}

double f32_peak(std::int64_t rounds) noexcept {
  constexpr std::size_t chains = 32;
  float sums[chains] = {};
  float factor = 0.5F;
  asm volatile("" : "+m"(factor));
  for (std::int64_t round = 0; round < rounds; ++round) {
    for (float& sum : sums) sum = sum * factor + 1.0F;
  }
  asm volatile("" : : "r"(sums) : "memory");
  return static_cast<double>(rounds) * chains * 2;
}

void read_memory(const void* memory, std::int64_t bytes) noexcept {
  const auto* words = static_cast<const std::uint64_t*>(memory);
  std::uint64_t seen[8] = {};
  for (std::int64_t i = 0; i < bytes / 256 * 32; i += 8) {
    for (int lane = 0; lane < 8; ++lane) seen[lane] |= words[i + lane];
  }
  asm volatile("" : : "r"(seen) : "memory");
}

}  // namespace pq::kernels::scalar
