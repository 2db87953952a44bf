#pragma once

#include <cmath>

namespace pq {

/// x / (1 + e^-x)
template <typename T>
T silu(T x) {
  return x / (T{1} + std::exp(-x));
}

}  // namespace pq
