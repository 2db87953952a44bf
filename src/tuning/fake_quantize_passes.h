#pragma once

#include <ATen/ATen.h>

#include "tuning/fake_quantize_setting.h"

namespace pq::quant {

// Forward and backward pass of the fake quantizers, without autograd. Inputs are contiguous and checked.

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
