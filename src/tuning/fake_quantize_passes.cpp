#include "tuning/fake_quantize_passes.h"

#include "tuning/fake_quantize_cpu.h"

namespace pq::quant {
namespace {

bool has_kernel(at::ScalarType type) { return type == at::kFloat || type == at::kBFloat16; }
/// On the CPU there are loops for float32 and bfloat16; any other device and type goes by tensor operations.
bool has_kernels(const at::Tensor& x, at::ScalarType other) {
  return x.is_cpu() && has_kernel(x.scalar_type()) && has_kernel(other);
}

at::Tensor sliced(const at::Tensor& x, const SliceLayout& layout, at::ScalarType type) {
  return x.to(type).reshape({layout.outer, layout.slices, layout.inner});
}

/// [slices] against [outer, slices, inner].
ScaleTensors broadcast(const ScaleTensors& scales) {
  return {scales.scale.unsqueeze(-1), scales.zero_point.defined() ? scales.zero_point.unsqueeze(-1) : at::Tensor()};
}

at::Tensor tensor_forward(const at::Tensor& x, const FakeQuantizeSetting& setting, const ScaleTensors& scales,
                          at::ScalarType out_type) {
  return fake_quantize(sliced(x, setting.layout, arithmetic_type(x)), broadcast(scales), setting.format)
      .reshape(x.sizes())
      .to(out_type);
}

FakeQuantizeGradients tensor_backward(const at::Tensor& x, const at::Tensor& grad_out,
                                      const FakeQuantizeSetting& setting, const ScaleTensors& scales, bool with_x) {
  const QuantRange range = setting.range();
  const at::Tensor values = sliced(x, setting.layout, arithmetic_type(x));
  const at::Tensor grads = sliced(grad_out, setting.layout, arithmetic_type(x));
  const ScaleTensors wide = broadcast(scales);
  const at::Tensor& scale = wide.scale;
  const at::Tensor zero = wide.zero_point.defined() ? wide.zero_point : at::zeros_like(scale);
  const at::Tensor steps = values / scale;
  const at::Tensor rounded = steps.round();
  const at::Tensor codes = rounded + zero;
  const at::Tensor below = codes < range.low;
  const at::Tensor above = codes > range.high;
  const at::Tensor outside = below.logical_or(above);
  const at::Tensor slope = at::where(below, range.low - zero, at::where(above, range.high - zero, rounded - steps));
  const at::Tensor none = at::zeros({}, grads.options());
  FakeQuantizeGradients gradients;
  if (with_x) gradients.x = at::where(outside, none, grads).reshape(x.sizes()).to(x.scalar_type());
  gradients.scale = (grads * slope).sum(at::IntArrayRef({0, 2}), false, at::kDouble);
  gradients.zero_point =
      at::where(outside, grads, none).sum(at::IntArrayRef({0, 2}), false, at::kDouble).mul_(scales.scale).neg_();
  return gradients;
}

DynamicScales tensor_dynamic_scales(const at::Tensor& x, const FakeQuantizeSetting& setting, const at::Tensor& gamma,
                                    const at::Tensor& beta) {
  const at::Tensor values = sliced(x, setting.layout, arithmetic_type(x));
  DynamicScales dynamic;
  dynamic.bounds = {values.amin({0, 2}), values.amax({0, 2})};
  dynamic.scales = slice_scales(dynamic.bounds.min, dynamic.bounds.max, gamma, beta, setting.format);
  return dynamic;
}

}  // namespace

at::ScalarType arithmetic_type(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

at::Tensor fake_quantize_forward(const at::Tensor& x, const FakeQuantizeSetting& setting, const ScaleTensors& scales,
                                 at::ScalarType out_type) {
  return has_kernels(x, out_type) ? cpu_forward(x, setting, scales, out_type)
                                  : tensor_forward(x, setting, scales, out_type);
}

at::Tensor fake_quantize_dynamic_forward(const at::Tensor& x, const FakeQuantizeSetting& setting,
                                         const at::Tensor& gamma, const at::Tensor& beta, DynamicScales& dynamic) {
  if (has_kernels(x, x.scalar_type())) {
    return cpu_dynamic_forward(x, setting, gamma.item<float>(), beta.defined() ? beta.item<float>() : 1.0F, dynamic);
  }
  dynamic = tensor_dynamic_scales(x, setting, gamma, beta);
  return tensor_forward(x, setting, dynamic.scales, x.scalar_type());
}

FakeQuantizeGradients fake_quantize_backward(const at::Tensor& x, const at::Tensor& grad_out,
                                             const FakeQuantizeSetting& setting, const ScaleTensors& scales,
                                             bool with_x) {
  return has_kernels(x, grad_out.scalar_type()) ? cpu_backward(x, grad_out.contiguous(), setting, scales, with_x)
                                                : tensor_backward(x, grad_out, setting, scales, with_x);
}

}  // namespace pq::quant
