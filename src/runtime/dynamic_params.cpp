#include "runtime/dynamic_params.h"

#include <algorithm>
#include <cmath>

namespace pq::runtime {

AffineParams dynamic_params(const QuantizerFormat& format, const std::array<float, 2>& clip, float min, float max) {
  if (!format.symmetric) return affine_params(min, max, clip[1], clip[0], format.bits);
  return {symmetric_scale(std::max(std::fabs(min), std::fabs(max)), clip[0], format.bits), 0};
}

}  // namespace pq::runtime
