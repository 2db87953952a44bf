#include <algorithm>
#include <cmath>

#include "base/half.h"
#include "kernels/row_scale.h"
#include "kernels/scalar/scalar.h"
#include "numerics/quantize.h"

namespace pq::kernels::scalar {
namespace {

// 1 / sqrt(mean(x^2) + eps)
float inverse_rms(const float* x, float eps, std::int64_t n) {
  double squares = 0;
  for (std::int64_t i = 0; i < n; ++i) squares += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return 1.0F / std::sqrt(static_cast<float>(squares / static_cast<double>(n)) + eps);
}

// Codes of x[n], then zeros up to `padded`; returns the sum of the codes.
std::int32_t quantize_slice(const float* x, std::int64_t n, std::int64_t padded, int planes, const RowScale& scale,
                            std::int8_t* codes, std::int64_t plane_stride) {
  std::int32_t sum = 0;
  for (std::int64_t i = 0; i < padded; ++i) {
    std::int32_t code = 0;
    if (i < n) code = quantize(x[i], scale.scale, scale.zero, {scale.low, scale.high}) - scale.lowered;
    sum += code;
    if (planes == 2) {
      const std::int32_t upper = (code + 128) >> 8;
      codes[i] = static_cast<std::int8_t>(code - upper * 256);
      codes[i + plane_stride] = static_cast<std::int8_t>(upper);
    } else {
      codes[i] = static_cast<std::int8_t>(code);
    }
  }
  return sum;
}

// x <- x * (H_power (x) I) in place, x viewed as [power][base].
void sylvester(float* x, std::int64_t size, std::int64_t base) {
  for (std::int64_t half = base; half < size; half *= 2) {
    for (std::int64_t start = 0; start < size; start += 2 * half) {
      for (std::int64_t i = start; i < start + half; ++i) {
        const float a = x[i];
        const float b = x[i + half];
        x[i] = a + b;
        x[i + half] = a - b;
      }
    }
  }
}

}  // namespace

void rms_norm(const float* x, const float* gamma, float eps, std::int64_t n, float* out) noexcept {
  const float inverse = inverse_rms(x, eps, n);
  for (std::int64_t i = 0; i < n; ++i) out[i] = x[i] * inverse * gamma[i];
}

void norm_quantize(const float* x, const float* gamma, float eps, const QuantizeRow& spec, const QuantizedRow& out,
                   float* scratch) noexcept {
  rms_norm(x, gamma, eps, spec.columns, scratch);
  quantize_row(scratch, spec, out);
}

void quantize_row(const float* x, const QuantizeRow& spec, const QuantizedRow& out) noexcept {
  RowScale scale{};
  if (spec.kind != ScaleKind::segment) {
    float min = 0;
    float max = 0;
    if (spec.kind == ScaleKind::row) min_max(x, spec.columns, &min, &max);
    scale = row_scale(spec, min, max);
  }
  for (std::int64_t segment = 0; segment < spec.segments; ++segment) {
    const std::int64_t first = segment * spec.segment;
    const std::int64_t padded = std::min(spec.segment, spec.padded - first);
    const std::int64_t n = std::clamp<std::int64_t>(spec.columns - first, 0, padded);
    if (spec.kind == ScaleKind::segment) {
      float min = 0;
      float max = 0;
      if (n > 0) min_max(x + first, n, &min, &max);
      scale = row_scale(spec, min, max);
    }
    out.scale[segment] = scale.scale;
    out.zero[segment] = scale.zero - scale.lowered;
    out.sum[segment] = quantize_slice(x + first, n, padded, spec.planes, scale, out.codes + first, out.plane_stride);
  }
}

void min_max(const float* x, std::int64_t n, float* min, float* max) noexcept {
  const MinMax bounds = pq::min_max({x, static_cast<std::size_t>(n)});
  *min = bounds.min;
  *max = bounds.max;
}

void rope(float* x, std::int64_t heads, std::int64_t head_dim, std::int64_t width, const float* cos,
          const float* sin) noexcept {
  const std::int64_t half = width / 2;
  for (std::int64_t head = 0; head < heads; ++head) {
    float* lower = x + head * head_dim;
    float* upper = lower + half;
    for (std::int64_t i = 0; i < half; ++i) {
      const float a = lower[i];
      const float b = upper[i];
      lower[i] = a * cos[i] - b * sin[i];
      upper[i] = b * cos[i] + a * sin[i];
    }
  }
}

void hadamard(float* row, const Hadamard& plan, float* scratch) noexcept {
  const std::int64_t size = plan.base * plan.power;
  for (std::int64_t block = 0; block < plan.blocks; ++block) {
    float* x = row + block * size;
    sylvester(x, size, plan.base);
    for (std::int64_t i = 0; i < size; ++i) x[i] *= plan.scale;
    if (plan.base == 1) continue;
    for (std::int64_t start = 0; start < size; start += plan.base) {
      std::fill_n(scratch, plan.base, 0.0F);
      for (std::int64_t i = 0; i < plan.base; ++i) {
        const float value = x[start + i];
        for (std::int64_t j = 0; j < plan.base; ++j) scratch[j] += value * plan.base_matrix[i * plan.base + j];
      }
      std::copy_n(scratch, plan.base, x + start);
    }
  }
}

void multiply_rows(float* rows, std::int64_t count, std::int64_t n, const float* matrix, float* scratch) noexcept {
  for (float* row = rows; row < rows + count * n; row += n) {
    std::copy_n(row, n, scratch);
    std::fill_n(row, n, 0.0F);
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t j = 0; j < n; ++j) row[j] += scratch[i] * matrix[i * n + j];
    }
  }
}

void f16_to_float(const std::uint16_t* x, std::int64_t n, float* out) noexcept {
  for (std::int64_t i = 0; i < n; ++i) out[i] = pq::f16_to_float(x[i]);
}

void float_to_bf16(const float* x, std::int64_t n, std::uint16_t* out) noexcept {
  for (std::int64_t i = 0; i < n; ++i) out[i] = pq::float_to_bf16(x[i]);
}

void bf16_to_float(const std::uint16_t* x, std::int64_t n, float* out) noexcept {
  for (std::int64_t i = 0; i < n; ++i) out[i] = pq::bf16_to_float(x[i]);
}

}  // namespace pq::kernels::scalar
