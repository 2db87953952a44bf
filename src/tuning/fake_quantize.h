#pragma once

#include <ATen/ATen.h>

#include "model/recipe.h"
#include "tuning/fake_quantize_setting.h"

namespace pq::quant {

// The fake quantizers that fine-tuning tunes (ALGORITHM.md section 7; paper 4.3). Gradients: the round passes them
// straight through, scales get LSQ's. With q = x / s and the code round(q) + z, inside the range dx^/dx = 1,
// dx^/ds = round(q) - q, dx^/dz = 0; where the code was clamped to q_bound, dx^/dx = 0, dx^/ds = q_bound - z,
// dx^/dz = -s. NaN counts as inside, and comes out as NaN.

/// Fake quantization with the gradients above. x: float32 or bfloat16 (float64 too, by tensor operations), contiguous
/// or not; scale [slices], zero_point [slices] (undefined for symmetric formats), float32 (float64 with float64 x);
/// their gradients have their shapes, which may be any with that many values. The zero point is rounded to the nearest
/// whole number on use, its gradient passes straight through. Returns x^ in `out_type` with x's shape. Values are those
/// of fake_quantize() bit for bit for float32; bfloat16 is computed in float32. On the CPU neither values nor gradients
/// of these two types depend on the number of threads. Throws InputError when the layout, the scales or the types do
/// not belong together.
at::Tensor fake_quantize_tunable(const at::Tensor& x, const SliceLayout& layout, const at::Tensor& scale,
                                 const at::Tensor& zero_point, const QuantizerFormat& format, at::ScalarType out_type);

/// Dynamic: scale (and zero point) of every slice from its own minimum and maximum times the clip factors gamma [1] and
/// beta [1] (beta undefined or ignored for symmetric formats); min and max are constants for the gradient; gamma and
/// beta get theirs by the chain rule through s and z. A slice whose scale is 0 is divided by 1 instead and gives the
/// clip factors no gradient. Layout outer must be 1. Values are those of SiteFakeQuantizer bit for bit for float32;
/// the result has x's type and shape.
at::Tensor fake_quantize_dynamic_tunable(const at::Tensor& x, const SliceLayout& layout, const at::Tensor& gamma,
                                         const at::Tensor& beta, const QuantizerFormat& format);

}  // namespace pq::quant
