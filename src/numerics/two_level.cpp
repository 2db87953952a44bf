#include "numerics/two_level.h"

#include <algorithm>
#include <cmath>

namespace pq::two_level {
namespace {

/// To the nearest, ties to even; a NaN becomes `low`.
std::int32_t rounded(float x, std::int32_t low, std::int32_t high) {
  const float whole = std::nearbyint(x);
  if (!(whole > static_cast<float>(low))) return low;
  return static_cast<std::int32_t>(std::min(whole, static_cast<float>(high)));
}

}  // namespace

QuantRange zero_point_range(std::int32_t scale) {
  return {std::max(0, largest_code - 127 / scale), std::min(largest_code, 128 / scale)};
}

bool fits(std::int32_t scale, std::int32_t zero_point) {
  if (scale < 1 || scale > largest_group_scale) return false;
  const QuantRange range = zero_point_range(scale);
  return zero_point >= range.low && zero_point <= range.high;
}

float channel_scale(float max_abs) {
  const float scale = max_abs / static_cast<float>(protective_range);
  return scale == 0 ? 1.0F : scale;
}

GroupScale group_scale(float low, float high, float channel_scale) {
  low = std::min(low, 0.0F);
  high = std::max(high, 0.0F);
  const float steps = (high - low) / static_cast<float>(largest_code) / channel_scale;
  const std::int32_t scale = rounded(steps, 1, largest_group_scale);
  const QuantRange range = zero_point_range(scale);
  return {scale, rounded(-low / effective_scale(channel_scale, scale), range.low, range.high)};
}

}  // namespace pq::two_level
