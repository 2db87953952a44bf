#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace pq {

/// A seeded generator (xoshiro256**, Blackman and Vigna 2018) that gives the same numbers on every platform, which
/// std::uniform_int_distribution does not promise. `stream` separates the uses of one user-visible seed.
class Random {
 public:
  Random(std::uint64_t seed, std::string_view stream) noexcept;
  std::uint64_t next() noexcept;
  /// Uniform in [0, bound); bound > 0.
  std::uint64_t below(std::uint64_t bound) noexcept;
  /// Uniform in [0, 1) with 53 random bits.
  double uniform() noexcept;
  /// Standard normal (Box-Muller).
  double normal() noexcept;
  /// -1 or +1.
  int sign() noexcept { return (next() >> 63) != 0 ? 1 : -1; }

  template <typename T>
  void shuffle(std::vector<T>& items) noexcept {
    for (std::size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[below(i)]);
  }

 private:
  std::uint64_t state_[4];
};

}  // namespace pq
