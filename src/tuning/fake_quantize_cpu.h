#pragma once

#include <ATen/ATen.h>

#include "tuning/fake_quantize_setting.h"

namespace pq::quant {

// The passes of fake_quantize_passes.h on the CPU for float32 and bfloat16: fused loops over chunks that fit a
// processor's second cache, on LibTorch's threads. Results do not depend on the number of threads.

at::Tensor cpu_forward(const at::Tensor& x, const FakeQuantizeSetting& setting, const ScaleTensors& scales,
                       at::ScalarType out_type);
at::Tensor cpu_dynamic_forward(const at::Tensor& x, const FakeQuantizeSetting& setting, float gamma, float beta,
                               DynamicScales& dynamic);
FakeQuantizeGradients cpu_backward(const at::Tensor& x, const at::Tensor& grad_out, const FakeQuantizeSetting& setting,
                                   const ScaleTensors& scales, bool with_x);

}  // namespace pq::quant
