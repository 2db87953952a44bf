#pragma once

#include "kernels/kernels.h"
#include "numerics/activation.h"

namespace pq::kernels::scalar {

inline float gated(Gate gate, float x) { return gate == Gate::silu ? silu(x) : gelu_tanh(x); }

}  // namespace pq::kernels::scalar
