#include "tuning/fake_quantize_cpu.h"

#include <ATen/TensorIterator.h>

#include <algorithm>
#include <cmath>

#include "tuning/fake_quantize_kernels.h"

namespace pq::quant {
namespace {

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

/// partial [rows, slices] -> [slices], in the order of the rows.
at::Tensor sum_rows(const at::Tensor& partial) {
  if (partial.size(0) == 1) return partial[0];
  at::Tensor sum = at::zeros({partial.size(1)}, partial.options());
  for (std::int64_t row = 0; row < partial.size(0); ++row) sum.add_(partial[row]);
  return sum;
}

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

}  // namespace

at::Tensor cpu_forward(const at::Tensor& x, const FakeQuantizeSetting& setting, const ScaleTensors& scales,
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

FakeQuantizeGradients cpu_backward(const at::Tensor& x, const at::Tensor& grad_out, const FakeQuantizeSetting& setting,
                                   const ScaleTensors& scales, bool with_x) {
  FakeQuantizeGradients gradients;
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

at::Tensor cpu_dynamic_forward(const at::Tensor& x, const FakeQuantizeSetting& setting, float gamma, float beta,
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
    return cpu_forward(x, setting, scales, x.scalar_type());
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

}  // namespace pq::quant
