#include "tuning/fake_quantize_kernels.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <type_traits>

#include "base/half.h"
#include "base/processor_clones.h"

namespace pq::quant {
namespace {

constexpr int lanes = 16;

PQ_INLINE float load(float value) { return value; }
PQ_INLINE float load(std::uint16_t bits) { return bf16_to_float(bits); }
PQ_INLINE void store(float value, float& out) { out = value; }
PQ_INLINE void store(float value, std::uint16_t& out) { out = float_to_bf16(value); }

/// One slice's quantizer. Symmetric: x + -0 is x even for x = -0, and so is x - 0.
struct Quantizer {
  float scale;
  float added;
  float subtracted;
  float low;
  float high;
};

PQ_INLINE Quantizer quantizer_of(const SliceQuantizers& all, std::int64_t slice) {
  const float zero = all.zero_point == nullptr ? 0.0F : all.zero_point[slice];
  return {all.scale[slice], all.zero_point == nullptr ? -0.0F : zero, zero, all.low, all.high};
}

template <typename T, typename U>
PQ_INLINE void quantize_slices(const T* x, U* out, const SliceBlock& block, const SliceQuantizers& all) {
  for (std::int64_t row = 0; row < block.rows; ++row) {
    for (std::int64_t slice = 0; slice < block.slices; ++slice) {
      const Quantizer z = quantizer_of(all, slice);
      const T* __restrict from = x + row * block.row_stride + slice * block.slice_stride;
      U* __restrict to = out + row * block.row_stride + slice * block.slice_stride;
      const std::int64_t inner = block.inner;
      for (std::int64_t i = 0; i < inner; ++i) {
        float code = std::rint(load(from[i]) / z.scale) + z.added;
        code = code < z.low ? z.low : code;
        code = code > z.high ? z.high : code;
        store((code - z.subtracted) * z.scale, to[i]);
      }
    }
  }
}

struct Sums {
  float scale[lanes] = {};
  float outside[lanes] = {};
};

/// Lanes 0 .. count - 1 of `sums` get one value each; inside: grad_out where x is inside the range, 0 elsewhere.
template <bool keep, typename T, typename U>
PQ_INLINE void differentiate_lanes(const T* __restrict x, const U* __restrict grad_out, float* __restrict inside,
                                   const Quantizer& z, int count, Sums& sums) {
  const float below = z.low - z.subtracted;
  const float above = z.high - z.subtracted;
  for (int i = 0; i < count; ++i) {
    const float g = load(grad_out[i]);
    const float steps = load(x[i]) / z.scale;
    const float rounded = std::rint(steps);
    const float code = rounded + z.added;
    // Masks, not branches: g++ vectorizes the first only.
    const std::uint32_t low = code < z.low ? ~0U : 0U;
    const std::uint32_t high = code > z.high ? ~0U : 0U;
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(g);
    const std::uint32_t slope = (std::bit_cast<std::uint32_t>(rounded - steps) & ~(low | high)) |
                                (std::bit_cast<std::uint32_t>(below) & low) |
                                (std::bit_cast<std::uint32_t>(above) & high);
    sums.scale[i] += g * std::bit_cast<float>(slope);
    sums.outside[i] += std::bit_cast<float>(bits & (low | high));
    if constexpr (keep) inside[i] = std::bit_cast<float>(bits & ~(low | high));
  }
}

/// One run of `count` values. A bfloat16 gradient is rounded in a loop of its own, which vectorizes.
template <bool grad_x, typename T, typename U>
PQ_INLINE void differentiate_run(const T* __restrict x, const U* __restrict grad_out, T* __restrict grad,
                                 const Quantizer& z, std::int64_t count, Sums& sums) {
  constexpr std::int64_t tile = 32 * lanes;
  constexpr bool rounds = grad_x && !std::is_same_v<T, float>;
  float buffer[rounds ? tile : 1];
  for (std::int64_t begin = 0; begin < count; begin += tile) {
    const std::int64_t size = std::min(tile, count - begin);
    float* inside = buffer;
    if constexpr (grad_x && !rounds) inside = grad + begin;
    const std::int64_t whole = size / lanes * lanes;
    for (std::int64_t i = 0; i < whole; i += lanes) {
      differentiate_lanes<grad_x>(x + begin + i, grad_out + begin + i, grad_x ? inside + i : nullptr, z, lanes, sums);
    }
    differentiate_lanes<grad_x>(x + begin + whole, grad_out + begin + whole, grad_x ? inside + whole : nullptr, z,
                                static_cast<int>(size - whole), sums);
    if constexpr (rounds) {
      for (std::int64_t i = 0; i < size; ++i) store(buffer[i], grad[begin + i]);
    }
  }
}

template <bool grad_x, typename T, typename U>
PQ_INLINE void differentiate_slices(const T* x, const U* grad_out, const SliceBlock& block, const SliceQuantizers& all,
                                    const BlockGradients<T>& gradients) {
  for (std::int64_t slice = 0; slice < block.slices; ++slice) {
    const Quantizer z = quantizer_of(all, slice);
    Sums sums;
    for (std::int64_t row = 0; row < block.rows; ++row) {
      const std::int64_t begin = row * block.row_stride + slice * block.slice_stride;
      differentiate_run<grad_x>(x + begin, grad_out + begin, grad_x ? gradients.x + begin : nullptr, z, block.inner,
                                sums);
    }
    double scale = 0;
    double outside = 0;
    for (int i = 0; i < lanes; ++i) {
      scale += static_cast<double>(sums.scale[i]);
      outside += static_cast<double>(sums.outside[i]);
    }
    gradients.scale[slice] = scale;
    gradients.outside[slice] = outside;
  }
}

template <typename T, typename U>
PQ_INLINE void differentiate(const T* x, const U* grad_out, const SliceBlock& block, const SliceQuantizers& quantizers,
                             const BlockGradients<T>& gradients) {
  if (gradients.x != nullptr) {
    differentiate_slices<true>(x, grad_out, block, quantizers, gradients);
  } else {
    differentiate_slices<false>(x, grad_out, block, quantizers, gradients);
  }
}

struct Bounds {
  float min[lanes];
  float max[lanes];
  std::uint32_t nan[lanes];
};

template <typename T>
PQ_INLINE void bound_lanes(const T* __restrict x, int count, Bounds& bounds) {
  for (int i = 0; i < count; ++i) {
    const float value = load(x[i]);
    bounds.min[i] = value < bounds.min[i] ? value : bounds.min[i];
    bounds.max[i] = value > bounds.max[i] ? value : bounds.max[i];
    bounds.nan[i] |= value != value ? 1U : 0U;
  }
}

template <typename T>
PQ_INLINE void bound_slices(const T* x, const SliceBlock& block, float* min, float* max) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
  for (std::int64_t slice = 0; slice < block.slices; ++slice) {
    Bounds bounds;
    for (int i = 0; i < lanes; ++i) {
      bounds.min[i] = infinity;
      bounds.max[i] = -infinity;
      bounds.nan[i] = 0;
    }
    for (std::int64_t row = 0; row < block.rows; ++row) {
      const T* from = x + row * block.row_stride + slice * block.slice_stride;
      std::int64_t i = 0;
      for (; i + lanes <= block.inner; i += lanes) bound_lanes(from + i, lanes, bounds);
      bound_lanes(from + i, static_cast<int>(block.inner - i), bounds);
    }
    float low = infinity;
    float high = -infinity;
    std::uint32_t nan = 0;
    for (int i = 0; i < lanes; ++i) {
      low = bounds.min[i] < low ? bounds.min[i] : low;
      high = bounds.max[i] > high ? bounds.max[i] : high;
      nan |= bounds.nan[i];
    }
    min[slice] = nan != 0 ? not_a_number : low;
    max[slice] = nan != 0 ? not_a_number : high;
  }
}

}  // namespace

PQ_CLONES void quantize_block(const float* x, float* out, const SliceBlock& block, const SliceQuantizers& quantizers) {
  quantize_slices(x, out, block, quantizers);
}
PQ_CLONES void quantize_block(const float* x, std::uint16_t* out, const SliceBlock& block,
                              const SliceQuantizers& quantizers) {
  quantize_slices(x, out, block, quantizers);
}
PQ_CLONES void quantize_block(const std::uint16_t* x, float* out, const SliceBlock& block,
                              const SliceQuantizers& quantizers) {
  quantize_slices(x, out, block, quantizers);
}
PQ_CLONES void quantize_block(const std::uint16_t* x, std::uint16_t* out, const SliceBlock& block,
                              const SliceQuantizers& quantizers) {
  quantize_slices(x, out, block, quantizers);
}

PQ_CLONES void differentiate_block(const float* x, const float* grad_out, const SliceBlock& block,
                                   const SliceQuantizers& quantizers, const BlockGradients<float>& gradients) {
  differentiate(x, grad_out, block, quantizers, gradients);
}
PQ_CLONES void differentiate_block(const float* x, const std::uint16_t* grad_out, const SliceBlock& block,
                                   const SliceQuantizers& quantizers, const BlockGradients<float>& gradients) {
  differentiate(x, grad_out, block, quantizers, gradients);
}
PQ_CLONES void differentiate_block(const std::uint16_t* x, const float* grad_out, const SliceBlock& block,
                                   const SliceQuantizers& quantizers, const BlockGradients<std::uint16_t>& gradients) {
  differentiate(x, grad_out, block, quantizers, gradients);
}
PQ_CLONES void differentiate_block(const std::uint16_t* x, const std::uint16_t* grad_out, const SliceBlock& block,
                                   const SliceQuantizers& quantizers, const BlockGradients<std::uint16_t>& gradients) {
  differentiate(x, grad_out, block, quantizers, gradients);
}

PQ_CLONES void min_max_block(const float* x, const SliceBlock& block, float* min, float* max) {
  bound_slices(x, block, min, max);
}
PQ_CLONES void min_max_block(const std::uint16_t* x, const SliceBlock& block, float* min, float* max) {
  bound_slices(x, block, min, max);
}

}  // namespace pq::quant
