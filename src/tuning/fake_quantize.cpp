#include "tuning/fake_quantize.h"

#include <ATen/TensorIterator.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "base/error.h"
#include "numerics/quantize.h"
#include "quant/quantizer.h"
#include "tuning/fake_quantize_kernels.h"

namespace pq::quant {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr const char* where = "fake quantizer";

/// What a backward pass needs besides tensors.
struct Setting {
  SliceLayout layout;
  QuantizerFormat format;

  std::vector<std::int64_t> pack() const {
    return {layout.outer, layout.slices, layout.inner, format.bits, format.symmetric ? 1 : 0};
  }
  static Setting unpack(const std::vector<std::int64_t>& values) {
    Setting setting{{values[0], values[1], values[2]}, {}};
    setting.format.bits = static_cast<int>(values[3]);
    setting.format.symmetric = values[4] != 0;
    return setting;
  }
  QuantRange range() const { return quant_range(format.bits, format.symmetric); }
};

at::ScalarType arithmetic_type(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

bool has_kernel(at::ScalarType type) { return type == at::kFloat || type == at::kBFloat16; }
bool has_kernels(const at::Tensor& x, at::ScalarType other) {
  return x.is_cpu() && has_kernel(x.scalar_type()) && has_kernel(other);
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

// Kernels.

/// body(0) .. body(count - 1) on LibTorch's own threads: threads of ours beside them would take the processors away
/// from its products, and at::parallel_for uses threads only in programs compiled for the same OpenMP library.
template <typename Body>
void for_each_chunk(std::int64_t count, const Body& body) {
  if (count <= 0) return;
  if (count == 1) return body(0);
  const at::Tensor indices = at::arange(count, at::TensorOptions().dtype(at::kLong));
  at::TensorIterator iterator = at::TensorIteratorConfig().add_input(indices).build();
  iterator.for_each(
      [&body](char** data, const std::int64_t* strides, std::int64_t size) {
        for (std::int64_t i = 0; i < size; ++i) {
          body(*reinterpret_cast<const std::int64_t*>(data[0] + i * strides[0]));
        }
      },
      /*grain_size=*/1);
}

/// A layout cut into chunks that fit a processor's second cache; the same whatever the number of threads is, and so are
/// sums over a chunk's slices that are added up in the chunks' order.
class Chunks {
 public:
  struct Chunk {
    SliceBlock block;
    std::int64_t offset;       // of its first value
    std::int64_t first_slice;  // of block.slices
    std::int64_t row;          // of the partial results [rows(), slices]
  };

  explicit Chunks(const SliceLayout& layout) : layout_(layout) {
    constexpr std::int64_t values = 16384;
    inner_ = std::clamp<std::int64_t>(layout.inner, 1, values);
    slices_ = inner_ < layout.inner ? 1 : std::clamp<std::int64_t>(values / inner_, 1, layout.slices);
    outer_ = slices_ < layout.slices ? 1 : std::clamp<std::int64_t>(values / (inner_ * layout.slices), 1, layout.outer);
    if (inner_ < layout.inner) outer_ = 1;
    inner_chunks_ = (layout.inner + inner_ - 1) / inner_;
    slice_chunks_ = (layout.slices + slices_ - 1) / slices_;
    outer_chunks_ = (layout.outer + outer_ - 1) / outer_;
  }

  std::int64_t count() const { return inner_chunks_ * slice_chunks_ * outer_chunks_; }
  /// Partial results of a slice.
  std::int64_t rows() const { return inner_chunks_ * outer_chunks_; }
  bool whole_slices() const { return rows() == 1; }

  Chunk operator[](std::int64_t index) const {
    const std::int64_t inner = index % inner_chunks_ * inner_;
    const std::int64_t slice = index / inner_chunks_ % slice_chunks_ * slices_;
    const std::int64_t outer = index / inner_chunks_ / slice_chunks_ * outer_;
    return {{std::min(outer_, layout_.outer - outer), std::min(slices_, layout_.slices - slice),
             std::min(inner_, layout_.inner - inner), layout_.slices * layout_.inner, layout_.inner},
            (outer * layout_.slices + slice) * layout_.inner + inner,
            slice,
            outer / outer_ * inner_chunks_ + inner / inner_};
  }

 private:
  SliceLayout layout_;
  std::int64_t inner_;
  std::int64_t slices_;
  std::int64_t outer_;
  std::int64_t inner_chunks_;
  std::int64_t slice_chunks_;
  std::int64_t outer_chunks_;
};

/// body(pointer to the values), float* or std::uint16_t* for bfloat16.
template <typename Body>
void with_values(const at::Tensor& x, const Body& body) {
  if (x.scalar_type() == at::kBFloat16) {
    body(reinterpret_cast<std::uint16_t*>(x.data_ptr<at::BFloat16>()));
  } else {
    body(x.data_ptr<float>());
  }
}

SliceQuantizers quantizers_from(const ScaleTensors& scales, const QuantRange& range, std::int64_t first) {
  return {scales.scale.data_ptr<float>() + first,
          scales.zero_point.defined() ? scales.zero_point.data_ptr<float>() + first : nullptr,
          static_cast<float>(range.low), static_cast<float>(range.high)};
}

at::Tensor kernel_forward(const at::Tensor& x, const Setting& setting, const ScaleTensors& scales,
                          at::ScalarType out_type) {
  const at::Tensor result = at::empty(x.sizes(), x.options().dtype(out_type));
  const QuantRange range = setting.range();
  const Chunks chunks(setting.layout);
  with_values(x, [&](auto* from) {
    with_values(result, [&](auto* to) {
      for_each_chunk(chunks.count(), [&](std::int64_t index) {
        const Chunks::Chunk chunk = chunks[index];
        quantize_block(from + chunk.offset, to + chunk.offset, chunk.block,
                       quantizers_from(scales, range, chunk.first_slice));
      });
    });
  });
  return result;
}

struct Gradients {
  at::Tensor x;           // undefined where not wanted
  at::Tensor scale;       // [slices] float64
  at::Tensor zero_point;  // [slices] float64
};

/// partial [rows, slices] -> [slices], in the order of the rows.
at::Tensor sum_rows(const at::Tensor& partial) {
  if (partial.size(0) == 1) return partial[0];
  at::Tensor sum = at::zeros({partial.size(1)}, partial.options());
  for (std::int64_t row = 0; row < partial.size(0); ++row) sum.add_(partial[row]);
  return sum;
}

Gradients kernel_backward(const at::Tensor& x, const at::Tensor& grad_out, const Setting& setting,
                          const ScaleTensors& scales, bool with_x) {
  Gradients gradients;
  if (with_x) gradients.x = at::empty_like(x);
  const QuantRange range = setting.range();
  const Chunks chunks(setting.layout);
  const at::Tensor partial = at::empty({2, chunks.rows(), setting.layout.slices}, at::kDouble);
  auto* sums = partial.data_ptr<double>();
  const std::int64_t outside = chunks.rows() * setting.layout.slices;
  with_values(x, [&](auto* values) {
    with_values(grad_out, [&](const auto* grads) {
      decltype(values) grad_x = nullptr;
      if (with_x) with_values(gradients.x, [&](auto* at) { grad_x = reinterpret_cast<decltype(values)>(at); });
      for_each_chunk(chunks.count(), [&](std::int64_t index) {
        const Chunks::Chunk chunk = chunks[index];
        double* sum = sums + chunk.row * setting.layout.slices + chunk.first_slice;
        differentiate_block(values + chunk.offset, grads + chunk.offset, chunk.block,
                            quantizers_from(scales, range, chunk.first_slice),
                            {grad_x == nullptr ? nullptr : grad_x + chunk.offset, sum, sum + outside});
      });
    });
  });
  gradients.scale = sum_rows(partial[0]);
  gradients.zero_point = sum_rows(partial[1]).mul_(scales.scale).neg_();
  return gradients;
}

struct DynamicScales {
  MinMaxTensors bounds;  // [slices]
  ScaleTensors scales;   // [slices]
};

/// Scales of `count` slices from their bounds, as slice_scales() computes them.
void compute_scales(const QuantizerFormat& format, float gamma, float beta, const float* min, const float* max,
                    std::int64_t count, float* scale, float* zero_point) {
  for (std::int64_t i = 0; i < count; ++i) {
    if (format.symmetric) {
      const float bound = std::isnan(min[i]) ? min[i] : std::max(-min[i], max[i]);
      scale[i] = symmetric_scale(bound, gamma, format.bits);
    } else {
      const AffineParams parameters = affine_params(min[i], max[i], beta, gamma, format.bits);
      scale[i] = parameters.scale;
      zero_point[i] = static_cast<float>(parameters.zero_point);
    }
  }
}

at::Tensor kernel_dynamic_forward(const at::Tensor& x, const Setting& setting, float gamma, float beta,
                                  DynamicScales& dynamic) {
  const QuantizerFormat& format = setting.format;
  const std::int64_t slices = setting.layout.slices;
  const QuantRange range = setting.range();
  const Chunks chunks(setting.layout);
  const at::Tensor mins = at::empty({chunks.rows(), slices}, at::kFloat);
  const at::Tensor maxs = at::empty({chunks.rows(), slices}, at::kFloat);
  ScaleTensors& scales = dynamic.scales;
  scales.scale = at::empty({slices}, at::kFloat);
  if (!format.symmetric) scales.zero_point = at::empty({slices}, at::kFloat);
  float* min = mins.data_ptr<float>();
  float* max = maxs.data_ptr<float>();
  float* scale = scales.scale.data_ptr<float>();
  float* zero_point = format.symmetric ? nullptr : scales.zero_point.data_ptr<float>();
  if (!chunks.whole_slices()) {
    with_values(x, [&](const auto* from) {
      for_each_chunk(chunks.count(), [&](std::int64_t index) {
        const Chunks::Chunk chunk = chunks[index];
        const std::int64_t at = chunk.row * slices + chunk.first_slice;
        min_max_block(from + chunk.offset, chunk.block, min + at, max + at);
      });
    });
    dynamic.bounds = {mins.amin(0), maxs.amax(0)};
    compute_scales(format, gamma, beta, dynamic.bounds.min.data_ptr<float>(), dynamic.bounds.max.data_ptr<float>(),
                   slices, scale, zero_point);
    return kernel_forward(x, setting, scales, x.scalar_type());
  }
  // Each value is read from memory once: the second reading finds it in the cache.
  dynamic.bounds = {mins[0], maxs[0]};
  const at::Tensor result = at::empty_like(x);
  with_values(x, [&](auto* from) {
    with_values(result, [&](auto* to) {
      for_each_chunk(chunks.count(), [&](std::int64_t index) {
        const Chunks::Chunk chunk = chunks[index];
        const std::int64_t at = chunk.first_slice;
        min_max_block(from + chunk.offset, chunk.block, min + at, max + at);
        compute_scales(format, gamma, beta, min + at, max + at, chunk.block.slices, scale + at,
                       zero_point == nullptr ? nullptr : zero_point + at);
        quantize_block(from + chunk.offset, to + chunk.offset, chunk.block, quantizers_from(scales, range, at));
      });
    });
  });
  return result;
}

// Any device and type, by tensor operations.

at::Tensor sliced(const at::Tensor& x, const SliceLayout& layout, at::ScalarType type) {
  return x.to(type).reshape({layout.outer, layout.slices, layout.inner});
}

/// [slices] against [outer, slices, inner].
ScaleTensors broadcast(const ScaleTensors& scales) {
  return {scales.scale.unsqueeze(-1), scales.zero_point.defined() ? scales.zero_point.unsqueeze(-1) : at::Tensor()};
}

at::Tensor tensor_forward(const at::Tensor& x, const Setting& setting, const ScaleTensors& scales,
                          at::ScalarType out_type) {
  return fake_quantize(sliced(x, setting.layout, arithmetic_type(x)), broadcast(scales), setting.format)
      .reshape(x.sizes())
      .to(out_type);
}

Gradients tensor_backward(const at::Tensor& x, const at::Tensor& grad_out, const Setting& setting,
                          const ScaleTensors& scales, bool with_x) {
  const QuantRange range = setting.range();
  const at::Tensor values = sliced(x, setting.layout, arithmetic_type(x));
  const at::Tensor grads = sliced(grad_out, setting.layout, arithmetic_type(x));
  const auto [scale, zero_point] = broadcast(scales);
  const at::Tensor zero = zero_point.defined() ? zero_point : at::zeros_like(scale);
  const at::Tensor steps = values / scale;
  const at::Tensor rounded = steps.round();
  const at::Tensor codes = rounded + zero;
  const at::Tensor below = codes < range.low;
  const at::Tensor above = codes > range.high;
  const at::Tensor outside = below.logical_or(above);
  const at::Tensor slope = at::where(below, range.low - zero, at::where(above, range.high - zero, rounded - steps));
  const at::Tensor none = at::zeros({}, grads.options());
  Gradients gradients;
  if (with_x) gradients.x = at::where(outside, none, grads).reshape(x.sizes()).to(x.scalar_type());
  gradients.scale = (grads * slope).sum(at::IntArrayRef({0, 2}), false, at::kDouble);
  gradients.zero_point =
      at::where(outside, grads, none).sum(at::IntArrayRef({0, 2}), false, at::kDouble).mul_(scales.scale).neg_();
  return gradients;
}

Gradients backward_of(const at::Tensor& x, const at::Tensor& grad_out, const Setting& setting,
                      const ScaleTensors& scales, bool with_x) {
  return has_kernels(x, grad_out.scalar_type()) ? kernel_backward(x, grad_out.contiguous(), setting, scales, with_x)
                                                : tensor_backward(x, grad_out, setting, scales, with_x);
}

struct StaticFunction : torch::autograd::Function<StaticFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input, const at::Tensor& scale,
                            const c10::optional<at::Tensor>& zero_point, const Setting& setting,
                            at::ScalarType out_type) {
    const at::Tensor x = input.contiguous();
    const ScaleTensors scales{scale.contiguous().flatten(),
                              zero_point ? zero_point->round().contiguous().flatten() : at::Tensor()};
    context->save_for_backward({x, scales.scale, scales.zero_point});
    context->saved_data["setting"] = setting.pack();
    context->saved_data["shape"] = scale.sizes().vec();
    return has_kernels(x, out_type) ? kernel_forward(x, setting, scales, out_type)
                                    : tensor_forward(x, setting, scales, out_type);
  }

  static variable_list backward(AutogradContext* context, const variable_list& grad_out) {
    const variable_list saved = context->get_saved_variables();
    const ScaleTensors scales{saved[1], saved[2]};
    const Gradients gradients =
        backward_of(saved[0], grad_out[0], Setting::unpack(context->saved_data["setting"].toIntVector()), scales,
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
ClipGradients clip_gradients(const Gradients& gradients, const DynamicScales& dynamic, const at::Tensor& gamma,
                             const at::Tensor& beta, const QuantizerFormat& format) {
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

DynamicScales tensor_dynamic_scales(const at::Tensor& x, const Setting& setting, const at::Tensor& gamma,
                                    const at::Tensor& beta) {
  const at::Tensor values = sliced(x, setting.layout, arithmetic_type(x));
  DynamicScales dynamic;
  dynamic.bounds = {values.amin({0, 2}), values.amax({0, 2})};
  dynamic.scales = slice_scales(dynamic.bounds.min, dynamic.bounds.max, gamma, beta, setting.format);
  return dynamic;
}

struct DynamicFunction : torch::autograd::Function<DynamicFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input, const at::Tensor& gamma,
                            const c10::optional<at::Tensor>& beta, const Setting& setting) {
    const at::Tensor x = input.contiguous();
    const at::Tensor lower_clip = beta.value_or(at::Tensor());
    DynamicScales dynamic;
    at::Tensor result;
    if (has_kernels(x, x.scalar_type())) {
      result = kernel_dynamic_forward(x, setting, gamma.item<float>(), beta ? beta->item<float>() : 1.0F, dynamic);
    } else {
      dynamic = tensor_dynamic_scales(x, setting, gamma, lower_clip);
      result = tensor_forward(x, setting, dynamic.scales, x.scalar_type());
    }
    context->save_for_backward({x, dynamic.scales.scale, dynamic.scales.zero_point, dynamic.bounds.min,
                                dynamic.bounds.max, gamma, lower_clip});
    context->saved_data["setting"] = setting.pack();
    return result;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grad_out) {
    const variable_list saved = context->get_saved_variables();
    const Setting setting = Setting::unpack(context->saved_data["setting"].toIntVector());
    const DynamicScales dynamic{{saved[3], saved[4]}, {saved[1], saved[2]}};
    const at::Tensor& gamma = saved[5];
    const at::Tensor& beta = saved[6];
    const Gradients gradients =
        backward_of(saved[0], grad_out[0], setting, dynamic.scales, context->needs_input_grad(0));
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

at::Tensor fake_quantize_trained(const at::Tensor& x, const SliceLayout& layout, const at::Tensor& scale,
                                 const at::Tensor& zero_point, const QuantizerFormat& format, at::ScalarType out_type) {
  check_layout(x, layout);
  check_parameter("scale", scale, x, layout.slices);
  c10::optional<at::Tensor> zero;
  if (!format.symmetric) {
    check_parameter("zero point", zero_point, x, layout.slices);
    zero = zero_point;
  }
  return StaticFunction::apply(x, scale, zero, Setting{layout, format}, out_type);
}

at::Tensor fake_quantize_dynamic_trained(const at::Tensor& x, const SliceLayout& layout, const at::Tensor& gamma,
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
  return DynamicFunction::apply(x, gamma, lower_clip, Setting{layout, format});
}

}  // namespace pq::quant
