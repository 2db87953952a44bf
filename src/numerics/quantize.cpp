#include "numerics/quantize.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace pq {
namespace {

constexpr float largest_zero_point = 32767;

void check_bits(int bits) {
  if (bits < 2 || bits > 8) throw InputError("quantizer", fmt::format("{} bits are not supported", bits), "use 2 to 8");
}

void check_sizes(std::size_t values, std::size_t codes) {
  if (values != codes) throw InputError("quantizer", fmt::format("{} values do not fit {} codes", values, codes));
}

}  // namespace

QuantRange quant_range(int bits, bool symmetric) {
  check_bits(bits);
  const std::int32_t count = 1 << bits;
  return symmetric ? QuantRange{-count / 2, count / 2 - 1} : QuantRange{0, count - 1};
}

float symmetric_scale(float max_abs, float clip, int bits) {
  check_bits(bits);
  const float half_levels = static_cast<float>((1 << bits) - 1) / 2;
  const float bound = clip * max_abs;
  const float scale = bound / half_levels;
  return scale == 0 ? 1.0F : scale;
}

AffineParams affine_params(float min, float max, float beta, float gamma, int bits) {
  check_bits(bits);
  const float levels = static_cast<float>((1 << bits) - 1);
  const float lower = beta * min;
  const float upper = gamma * max;
  const float range = upper - lower;
  float scale = range / levels;
  const float smallest = std::fabs(lower) / largest_zero_point;
  if (scale < smallest) scale = smallest;
  if (scale == 0) scale = 1.0F;
  const float zero = std::nearbyint(-lower / scale);
  if (std::isnan(zero)) return {scale, 0};
  // The bound on the scale keeps z in range except where the scale is subnormal, hence coarse.
  return {scale, static_cast<std::int32_t>(std::clamp(zero, -largest_zero_point, largest_zero_point))};
}

std::int32_t quantize(float x, float scale, std::int32_t zero_point, QuantRange range) {
  const float steps = std::nearbyint(x / scale);
  if (std::isnan(steps)) return std::clamp(zero_point, range.low, range.high);
  // Clamped before z is added: steps may be beyond any integer, and float sums above 2^24 would round.
  const auto low = static_cast<float>(range.low - zero_point);
  const auto high = static_cast<float>(range.high - zero_point);
  return static_cast<std::int32_t>(std::clamp(steps, low, high)) + zero_point;
}

float dequantize(std::int32_t code, float scale, std::int32_t zero_point) {
  return static_cast<float>(code - zero_point) * scale;
}

float max_abs(std::span<const float> x) {
  const MinMax bounds = min_max(x);
  if (std::isnan(bounds.min)) return bounds.min;
  return std::max(std::fabs(bounds.min), std::fabs(bounds.max));
}

MinMax min_max(std::span<const float> x) {
  if (x.empty()) return {0, 0};
  MinMax bounds{x[0], x[0]};
  for (const float value : x) {
    if (std::isnan(value)) return {value, value};
    bounds.min = std::min(bounds.min, value);
    bounds.max = std::max(bounds.max, value);
  }
  return bounds;
}

void quantize(std::span<const float> x, float scale, std::int32_t zero_point, QuantRange range,
              std::span<std::int32_t> codes) {
  check_sizes(x.size(), codes.size());
  for (std::size_t i = 0; i < x.size(); ++i) codes[i] = quantize(x[i], scale, zero_point, range);
}

void dequantize(std::span<const std::int32_t> codes, float scale, std::int32_t zero_point, std::span<float> x) {
  check_sizes(x.size(), codes.size());
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = dequantize(codes[i], scale, zero_point);
}

void fake_quantize(std::span<float> x, float scale, std::int32_t zero_point, QuantRange range) {
  for (float& value : x) value = dequantize(quantize(value, scale, zero_point, range), scale, zero_point);
}

}  // namespace pq
