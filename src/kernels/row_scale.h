#pragma once

#include "kernels/kernels.h"

namespace pq::kernels {

/// Scale and zero point of a slice of activations, as it is quantized: codes are low .. high before the zero point.
struct RowScale {
  float scale;
  std::int32_t zero;  ///< as numerics/quantize.h has it
  std::int32_t low;   ///< smallest code
  std::int32_t high;
  std::int32_t lowered;  ///< what is subtracted from a code, and from zero, to store it as int8
};

/// From the slice's smallest and largest value (both NaN when it holds one), or spec.scale and spec.zero when they are
/// fixed. A plain function, compiled once without any instruction set's flags: it is numerics/quantize.h that defines
/// it.
RowScale row_scale(const QuantizeRow& spec, float min, float max) noexcept;

}  // namespace pq::kernels
