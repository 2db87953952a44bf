#pragma once

#include <cstdint>

namespace pq::quant {

// The loops of fake quantization over plain memory, one pass each. float* is float32; std::uint16_t* is the bits of
// bfloat16, converted on the way in and out: all arithmetic is float32, one rounding an operation.

/// A box of values: value i of slice k in row r is at r * row_stride + k * slice_stride + i, counted in values.
/// At most a few thousand values a slice, which is how many a float32 lane of the sums adds up.
struct SliceBlock {
  std::int64_t rows;
  std::int64_t slices;
  std::int64_t inner;
  std::int64_t row_stride;
  std::int64_t slice_stride;
};

/// The quantizers of a block's slices.
struct SliceQuantizers {
  const float* scale;       ///< [slices]
  const float* zero_point;  ///< [slices], whole numbers; null for symmetric formats
  float low;                ///< smallest and largest code
  float high;
};

/// x -> x^ with x^ = (clamp(round(x / s) + z) - z) * s. NaN -> NaN.
void quantize_block(const float* x, float* out, const SliceBlock& block, const SliceQuantizers& quantizers);
void quantize_block(const float* x, std::uint16_t* out, const SliceBlock& block, const SliceQuantizers& quantizers);
void quantize_block(const std::uint16_t* x, float* out, const SliceBlock& block, const SliceQuantizers& quantizers);
void quantize_block(const std::uint16_t* x, std::uint16_t* out, const SliceBlock& block,
                    const SliceQuantizers& quantizers);

/// Where a block's gradients go.
template <typename T>
struct BlockGradients {
  T* x;             ///< like x; null where it is not wanted
  double* scale;    ///< [slices]: sum of grad_out * (round(q) - q), or of grad_out * (q_bound - z) outside the range
  double* outside;  ///< [slices]: sum of grad_out outside the range; times -s it is the zero point's gradient
};
void differentiate_block(const float* x, const float* grad_out, const SliceBlock& block,
                         const SliceQuantizers& quantizers, const BlockGradients<float>& gradients);
void differentiate_block(const float* x, const std::uint16_t* grad_out, const SliceBlock& block,
                         const SliceQuantizers& quantizers, const BlockGradients<float>& gradients);
void differentiate_block(const std::uint16_t* x, const float* grad_out, const SliceBlock& block,
                         const SliceQuantizers& quantizers, const BlockGradients<std::uint16_t>& gradients);
void differentiate_block(const std::uint16_t* x, const std::uint16_t* grad_out, const SliceBlock& block,
                         const SliceQuantizers& quantizers, const BlockGradients<std::uint16_t>& gradients);

/// Smallest and largest value of every slice, [slices] each: both NaN when it holds one.
void min_max_block(const float* x, const SliceBlock& block, float* min, float* max);
void min_max_block(const std::uint16_t* x, const SliceBlock& block, float* min, float* max);

}  // namespace pq::quant
