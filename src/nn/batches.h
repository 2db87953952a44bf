#pragma once

#include <algorithm>
#include <cstdint>

namespace pq::nn {

/// Tokens that go through a block together on a CPU: enough to make the matrix products worth their calls, few enough
/// to stay near the caches.
inline constexpr std::int64_t tokens_together = 2048;

/// Sequences of `length` tokens that go through a block together, one at least.
inline std::int64_t sequences_together(std::int64_t length, std::int64_t tokens = tokens_together) {
  return std::max<std::int64_t>(1, tokens / std::max<std::int64_t>(1, length));
}

}  // namespace pq::nn
