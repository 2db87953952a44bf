#pragma once

#include <cmath>

namespace pq {

/// x / (1 + e^-x)
template <typename T>
T silu(T x) {
  return x / (T{1} + std::exp(-x));
}

/// x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2: GELU by the tanh approximation, written as x / (1 + e^-2u).
template <typename T>
T gelu_tanh(T x) {
  constexpr T twice = T(2) * T(0.7978845608028653558798921198687637);  // 2 sqrt(2 / pi)
  return x / (T{1} + std::exp(-twice * (x + T(0.044715) * x * x * x)));
}

}  // namespace pq
