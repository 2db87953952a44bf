#include "kernels/row_scale.h"

#include <algorithm>
#include <cmath>

#include "numerics/quantize.h"

namespace pq::kernels {

RowScale row_scale(const QuantizeRow& spec, float min, float max) noexcept {
  const float largest = std::isnan(min) ? min : std::max(std::fabs(min), std::fabs(max));
  if (spec.planes == 2) {
    RowScale wide{spec.scale, spec.zero, -wide_code_max, wide_code_max, 0};
    if (spec.kind == ScaleKind::fixed) return wide;
    wide.zero = 0;
    wide.scale = largest / static_cast<float>(wide_code_max);
    if (wide.scale == 0) wide.scale = 1;
    return wide;
  }
  const QuantRange range = quant_range(spec.bits, spec.symmetric);
  const std::int32_t lowered = spec.symmetric ? 0 : 1 << (spec.bits - 1);
  if (spec.kind == ScaleKind::fixed) return {spec.scale, spec.zero, range.low, range.high, lowered};
  if (spec.symmetric) return {symmetric_scale(largest, spec.gamma, spec.bits), 0, range.low, range.high, 0};
  const AffineParams affine = affine_params(min, max, spec.beta, spec.gamma, spec.bits);
  return {affine.scale, affine.zero_point, range.low, range.high, lowered};
}

}  // namespace pq::kernels
