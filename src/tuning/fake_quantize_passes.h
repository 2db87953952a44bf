#pragma once

#include <ATen/ATen.h>

#include "model/recipe.h"
#include "numerics/quantize.h"
#include "quant/quantizer.h"
#include "tuning/slice_layout.h"

namespace pq::quant {

// Forward and backward pass of the fake quantizers, without autograd. Inputs are contiguous and checked.

struct FakeQuantizeSetting {
  SliceLayout layout;
  QuantizerFormat format;
  QuantRange range() const { return quant_range(format.bits, format.symmetric); }
};

struct FakeQuantizeGradients {
  at::Tensor x;           // undefined where not wanted
  at::Tensor scale;       // [slices] float64
  at::Tensor zero_point;  // [slices] float64
};

/// What dynamic quantizers computed from their input.
struct DynamicScales {
  MinMaxTensors bounds;  // [slices]
  ScaleTensors scales;   // [slices]
};

/// The type that parameters have, and in which x is computed with.
at::ScalarType arithmetic_type(const at::Tensor& x);

/// `scales`: [slices], zero points rounded.
at::Tensor fake_quantize_forward(const at::Tensor& x, const FakeQuantizeSetting& setting, const ScaleTensors& scales,
                                 at::ScalarType out_type);
/// Scales from the input; gamma and beta [1], beta undefined in symmetric formats.
at::Tensor fake_quantize_dynamic_forward(const at::Tensor& x, const FakeQuantizeSetting& setting,
                                         const at::Tensor& gamma, const at::Tensor& beta, DynamicScales& dynamic);
FakeQuantizeGradients fake_quantize_backward(const at::Tensor& x, const at::Tensor& grad_out,
                                             const FakeQuantizeSetting& setting, const ScaleTensors& scales,
                                             bool with_x);

}  // namespace pq::quant
