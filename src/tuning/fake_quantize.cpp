#include "tuning/fake_quantize.h"

#include <fmt/format.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <numeric>
#include <vector>

#include "base/error.h"
#include "tuning/fake_quantize_passes.h"

namespace pq::quant {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr const char* where = "fake quantizer";

/// What a backward pass needs besides tensors, as autograd can keep it.
std::vector<std::int64_t> pack(const FakeQuantizeSetting& setting) {
  const auto& [layout, format] = setting;
  return {layout.outer, layout.slices, layout.inner, format.bits, format.symmetric ? 1 : 0};
}
FakeQuantizeSetting unpack(const std::vector<std::int64_t>& values) {
  FakeQuantizeSetting setting{{values[0], values[1], values[2]}, {}};
  setting.format.bits = static_cast<int>(values[3]);
  setting.format.symmetric = values[4] != 0;
  return setting;
}

void check_layout(const at::Tensor& x, const SliceLayout& layout) {
  if (!x.is_floating_point()) throw InputError(where, "the input is not a floating-point tensor");
  const bool positive = layout.outer > 0 && layout.slices > 0 && layout.inner >= 0;
  if (!positive || layout.outer * layout.slices * layout.inner != x.numel()) {
    throw InputError(where, fmt::format("{} values do not form {} x {} slices of {}", x.numel(), layout.outer,
                                        layout.slices, layout.inner));
  }
}

void check_parameter(const char* name, const at::Tensor& parameter, const at::Tensor& x, std::int64_t count) {
  if (!parameter.defined() || parameter.numel() != count || parameter.scalar_type() != arithmetic_type(x) ||
      parameter.device() != x.device()) {
    throw InputError(where, fmt::format("the {} is not a tensor of {} {} values on the input's device", name, count,
                                        arithmetic_type(x) == at::kDouble ? "float64" : "float32"));
  }
}

struct StaticFunction : torch::autograd::Function<StaticFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input, const at::Tensor& scale,
                            const c10::optional<at::Tensor>& zero_point, const FakeQuantizeSetting& setting,
                            at::ScalarType out_type) {
    const at::Tensor x = input.contiguous();
    const ScaleTensors scales{scale.contiguous().flatten(),
                              zero_point ? zero_point->round().contiguous().flatten() : at::Tensor()};
    context->save_for_backward({x, scales.scale, scales.zero_point});
    context->saved_data["setting"] = pack(setting);
    context->saved_data["shape"] = scale.sizes().vec();
    return fake_quantize_forward(x, setting, scales, out_type);
  }

  static variable_list backward(AutogradContext* context, const variable_list& grad_out) {
    const variable_list saved = context->get_saved_variables();
    const ScaleTensors scales{saved[1], saved[2]};
    const FakeQuantizeGradients gradients =
        fake_quantize_backward(saved[0], grad_out[0], unpack(context->saved_data["setting"].toIntVector()), scales,
                               context->needs_input_grad(0));
    const std::vector<std::int64_t> shape = context->saved_data["shape"].toIntVector();
    const auto parameter = [&](const at::Tensor& gradient) {
      return gradient.to(saved[1].scalar_type()).reshape(shape);
    };
    return {gradients.x,
            context->needs_input_grad(1) ? parameter(gradients.scale) : at::Tensor(),
            saved[2].defined() && context->needs_input_grad(2) ? parameter(gradients.zero_point) : at::Tensor(),
            {},
            {}};
  }
};

/// Double sum in order, whatever the number of threads.
at::Tensor sum_of(const at::Tensor& values) {
  if (!values.is_cpu()) return values.sum();
  const at::Tensor plain = values.contiguous();
  const auto* data = plain.data_ptr<double>();
  return at::full({}, std::accumulate(data, data + plain.numel(), 0.0), plain.options());
}

/// What gamma and beta get from the gradients of the slices' scales and zero points, min and max being constants.
struct ClipGradients {
  at::Tensor gamma;
  at::Tensor beta;  // undefined when symmetric
};
ClipGradients clip_gradients(const FakeQuantizeGradients& gradients, const DynamicScales& dynamic,
                             const at::Tensor& gamma, const at::Tensor& beta, const QuantizerFormat& format) {
  const auto& [min, max] = dynamic.bounds;
  const at::Tensor none = at::zeros({}, gradients.scale.options());
  const double levels = std::ldexp(1.0, format.bits) - 1;
  if (format.symmetric) {  // s = gamma max|x| / (levels / 2)
    const at::Tensor max_abs = at::maximum(min.neg(), max);
    const at::Tensor dead = max_abs * gamma == 0;
    return {sum_of(at::where(dead, none, gradients.scale * max_abs)) / (levels / 2), {}};
  }
  // s = max((high - low) / levels, |low| / 32767), z = -low / s with low = beta min, high = gamma max.
  constexpr double largest_zero_point = 32767;
  const at::Tensor low = min * beta;
  const at::Tensor high = max * gamma;
  const at::Tensor from_range = (high - low) / levels;
  const at::Tensor from_bound = low.abs() / largest_zero_point;
  const at::Tensor ranged = from_range >= from_bound;
  const at::Tensor dead = at::maximum(from_range, from_bound) == 0;
  const at::Tensor scale = dynamic.scales.scale.to(at::kDouble);
  const at::Tensor grad_scale = gradients.scale + gradients.zero_point * low / scale.square();
  const at::Tensor grad_high = at::where(ranged, grad_scale / levels, none);
  const at::Tensor grad_low = at::where(ranged, grad_scale / -levels, grad_scale * low.sign() / largest_zero_point) -
                              gradients.zero_point / scale;
  return {sum_of(at::where(dead, none, grad_high * max)), sum_of(at::where(dead, none, grad_low * min))};
}

struct DynamicFunction : torch::autograd::Function<DynamicFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input, const at::Tensor& gamma,
                            const c10::optional<at::Tensor>& beta, const FakeQuantizeSetting& setting) {
    const at::Tensor x = input.contiguous();
    const at::Tensor lower_clip = beta.value_or(at::Tensor());
    DynamicScales dynamic;
    const at::Tensor result = fake_quantize_dynamic_forward(x, setting, gamma, lower_clip, dynamic);
    context->save_for_backward({x, dynamic.scales.scale, dynamic.scales.zero_point, dynamic.bounds.min,
                                dynamic.bounds.max, gamma, lower_clip});
    context->saved_data["setting"] = pack(setting);
    return result;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grad_out) {
    const variable_list saved = context->get_saved_variables();
    const FakeQuantizeSetting setting = unpack(context->saved_data["setting"].toIntVector());
    const DynamicScales dynamic{{saved[3], saved[4]}, {saved[1], saved[2]}};
    const at::Tensor& gamma = saved[5];
    const at::Tensor& beta = saved[6];
    const FakeQuantizeGradients gradients =
        fake_quantize_backward(saved[0], grad_out[0], setting, dynamic.scales, context->needs_input_grad(0));
    const bool beta_wanted = beta.defined() && context->needs_input_grad(2);
    if (!context->needs_input_grad(1) && !beta_wanted) return {gradients.x, {}, {}, {}};
    const ClipGradients clip = clip_gradients(gradients, dynamic, gamma, beta, setting.format);
    return {gradients.x,
            clip.gamma.to(gamma.scalar_type()).reshape(gamma.sizes()),
            beta_wanted ? clip.beta.to(beta.scalar_type()).reshape(beta.sizes()) : at::Tensor(),
            {}};
  }
};

}  // namespace

at::Tensor fake_quantize_tunable(const at::Tensor& x, const SliceLayout& layout, const at::Tensor& scale,
                                 const at::Tensor& zero_point, const QuantizerFormat& format, at::ScalarType out_type) {
  check_layout(x, layout);
  check_parameter("scale", scale, x, layout.slices);
  c10::optional<at::Tensor> zero;
  if (!format.symmetric) {
    check_parameter("zero point", zero_point, x, layout.slices);
    zero = zero_point;
  }
  return StaticFunction::apply(x, scale, zero, FakeQuantizeSetting{layout, format}, out_type);
}

at::Tensor fake_quantize_dynamic_tunable(const at::Tensor& x, const SliceLayout& layout, const at::Tensor& gamma,
                                         const at::Tensor& beta, const QuantizerFormat& format) {
  check_layout(x, layout);
  if (layout.outer != 1 || layout.inner == 0) {
    throw InputError(where, "dynamic slices are not empty, and each has its own scale");
  }
  check_parameter("clip factor gamma", gamma, x, 1);
  c10::optional<at::Tensor> lower_clip;
  if (!format.symmetric) {
    check_parameter("clip factor beta", beta, x, 1);
    lower_clip = beta;
  }
  return DynamicFunction::apply(x, gamma, lower_clip, FakeQuantizeSetting{layout, format});
}

}  // namespace pq::quant
