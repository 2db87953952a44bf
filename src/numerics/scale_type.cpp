#include "numerics/scale_type.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace pq {
namespace {

constexpr int f16_digits = 11;
constexpr int bf16_digits = 8;
constexpr float largest_f16 = 65504;
constexpr float largest_beside_zero_point = 4096;  // 15 * 4096 < 65504

}  // namespace

ScaleGrid scale_grid(ScaleType type, int bits, bool symmetric) {
  if (type == ScaleType::float32) throw std::logic_error("float32 scales are not rounded");
  if (type == ScaleType::bf16) return {bf16_digits, std::ldexp(1.0F, -133), std::ldexp(255.0F, 120)};
  if (symmetric || bits > 4) return {f16_digits, std::ldexp(1.0F, -24), largest_f16};
  return {f16_digits - bits, std::ldexp(1.0F, -24), largest_beside_zero_point};
}

float nearest_scale(float scale, const ScaleGrid& grid) {
  if (std::isnan(scale)) return scale;
  int exponent = 0;
  std::frexp(std::min(scale, grid.largest), &exponent);
  const float unit = std::max(std::ldexp(1.0F, exponent - grid.digits), grid.smallest);
  return std::clamp(std::nearbyint(scale / unit) * unit, grid.smallest, grid.largest);
}

float symmetric_scale(float max_abs, float clip, int bits, ScaleType type) {
  const float scale = symmetric_scale(max_abs, clip, bits);
  return type == ScaleType::float32 ? scale : nearest_scale(scale, scale_grid(type, bits, true));
}

AffineParams affine_params(float min, float max, float beta, float gamma, int bits, ScaleType type) {
  if (type == ScaleType::float32) return affine_params(min, max, beta, gamma, bits);
  const float low = std::min(beta * min, 0.0F);
  const float high = std::max(gamma * max, 0.0F);
  const AffineParams params = affine_params(low, high, 1, 1, bits);
  const float scale = nearest_scale(params.scale, scale_grid(type, bits, false));
  const float zero = std::nearbyint(-low / scale);
  if (std::isnan(zero)) return {scale, 0};
  return {scale, static_cast<std::int32_t>(std::clamp(zero, 0.0F, static_cast<float>((1 << bits) - 1)))};
}

}  // namespace pq
