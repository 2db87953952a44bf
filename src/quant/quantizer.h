#pragma once

#include <ATen/ATen.h>

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "model/quantized_block.h"
#include "model/recipe.h"
#include "nn/block.h"

namespace pq::quant {

// The arithmetic of numerics/quantize.h on tensors: the same values, bit for bit, for float32 inputs.

/// Scales and zero points of slices; `zero_point` is undefined when symmetric.
struct ScaleTensors {
  at::Tensor scale;
  at::Tensor zero_point;  // same shape, floating, whole numbers
  at::Tensor channel{};   // two-level weights: [out, 1], what `scale` is whole multiples of; else undefined
};

/// min, max: any shape. gamma and beta scale max and min; symmetric formats use gamma and max(|min|, |max|).
ScaleTensors slice_scales(const at::Tensor& min, const at::Tensor& max, const at::Tensor& gamma, const at::Tensor& beta,
                          const QuantizerFormat& format);

/// round(x / s) + z, clamped to the format's range: codes as whole numbers in x's dtype. Scales broadcast against x.
at::Tensor quantize(const at::Tensor& x, const ScaleTensors& scales, const QuantizerFormat& format);
at::Tensor dequantize(const at::Tensor& codes, const ScaleTensors& scales);
/// dequantize(quantize(x)).
at::Tensor fake_quantize(const at::Tensor& x, const ScaleTensors& scales, const QuantizerFormat& format);

/// A static site's scales (and zero points) as a checkpoint holds them.
SiteQuantizer static_site_quantizer(const ScaleTensors& scales);

/// Smallest and largest value of the slices of x that share a static scale at `site`: one a tensor, or one a KV head
/// for the caches (x [.., kv_heads, head_dim]); shape [1] or [kv_heads].
struct MinMaxTensors {
  at::Tensor min;
  at::Tensor max;
};
MinMaxTensors static_slices(Site site, const at::Tensor& x);
MinMaxTensors merge(const MinMaxTensors& a, const MinMaxTensors& b);
/// Scales for a range times a factor, both [1] or [kv_heads].
ScaleTensors range_scales(const MinMaxTensors& range, const at::Tensor& factor, const QuantizerFormat& format);
/// A static site's quantizer whose range is `range` times `factor`, [1] or [kv_heads].
SiteQuantizer static_site_quantizer(const MinMaxTensors& range, const at::Tensor& factor,
                                    const QuantizerFormat& format);

/// A site's quantizer with the factor that the format fixes; `range` is read for static formats.
SiteQuantizer fixed_site_quantizer(const MinMaxTensors& range, const QuantizerFormat& format);
/// The clip factors [out, groups] that the format fixes for a weight [out, in].
at::Tensor fixed_clip(const at::Tensor& weight, const QuantizerFormat& format);

/// The fake quantizer of one site: what a block's tap does there.
class SiteFakeQuantizer {
 public:
  /// Passes everything through.
  SiteFakeQuantizer() = default;
  SiteFakeQuantizer(Site site, const QuantizerFormat& format, const SiteQuantizer& parameters,
                    const at::TensorOptions& options);
  /// Static scales as tensors, [1] or [kv_heads].
  SiteFakeQuantizer(Site site, const QuantizerFormat& format, ScaleTensors scales);
  /// Dynamic scales with these clip factors for maximum and minimum.
  SiteFakeQuantizer(Site site, const QuantizerFormat& format, float gamma, float beta);

  bool enabled() const { return format_.enabled(); }
  /// x as in Site's comments, with [batch, tokens] in front -> x^. A dynamic scale per tensor is one per sequence.
  at::Tensor operator()(const at::Tensor& x) const;

 private:
  at::Tensor dynamic(const at::Tensor& x) const;
  at::Tensor dynamic_slices(const at::Tensor& slices) const;  // last dimension shares a scale

  Site site_ = Site::block_output;
  QuantizerFormat format_;
  ScaleTensors scales_;
  float gamma_ = 1;
  float beta_ = 1;
};

/// A weight's codes and scales. Groups run along the inputs; the last group of a row may be shorter.
struct WeightCodes {
  at::Tensor codes;     // [out, in], whole numbers, float32
  ScaleTensors scales;  // [out, groups]
};

/// [out, in] -> [out, groups, group]; a short last group is filled up by repeating its last column, which changes no
/// minimum or maximum.
at::Tensor split_groups(const at::Tensor& weight, const QuantizerFormat& format);
/// The inverse: [out, groups, group] -> [out, in].
at::Tensor join_groups(const at::Tensor& grouped, std::int64_t in_features);

/// Scales [out, groups] of a weight [out, in] float32; clip [out, groups] (gamma and beta alike). Those of two-level
/// formats are effective ones (numerics/two_level.h), already such as a checkpoint can hold.
ScaleTensors weight_scales(const at::Tensor& weight, const at::Tensor& clip, const QuantizerFormat& format);
/// Those of one group of columns, once for every row of `gamma` and `beta`, [candidates, 1], which multiply its largest
/// and smallest values: min, max [out] -> [candidates, out]. `channel` [out, 1]: the channel scales of a two-level
/// format, undefined for others.
ScaleTensors group_scale_candidates(const at::Tensor& min, const at::Tensor& max, const at::Tensor& gamma,
                                    const at::Tensor& beta, const at::Tensor& channel, const QuantizerFormat& format);
/// The scales that a checkpoint of the format can hold that are nearest to these: the same ones but for 16-bit scale
/// types and for two-level formats, whose `channel` must be there.
ScaleTensors snapped(const ScaleTensors& scales, const QuantizerFormat& format);
/// The whole scales of a two-level format's groups, [out, groups].
at::Tensor whole_group_scales(const ScaleTensors& scales);

/// Codes with weight_scales().
WeightCodes quantize_weight(const at::Tensor& weight, const at::Tensor& clip, const QuantizerFormat& format);
/// Codes [out, in] of a weight [out, in] with given scales [out, groups].
at::Tensor quantize_with_scales(const at::Tensor& weight, const ScaleTensors& scales, const QuantizerFormat& format);
at::Tensor dequantize_weight(const WeightCodes& codes, const QuantizerFormat& format);

/// The layer as a checkpoint holds it. Unquantized formats keep the weight in binary16. Throws std::logic_error for
/// scales that are not snapped().
QuantizedLinear pack_linear(const WeightCodes& codes, const at::Tensor& bias, const QuantizerFormat& format);
QuantizedLinear half_linear(const at::Tensor& weight, const at::Tensor& bias);
/// The codes and scales of a quantized format, on `device`.
WeightCodes unpack_codes(const QuantizedLinear& linear, const LinearShape& shape, const QuantizerFormat& format,
                         const at::Device& device);
/// The layer that a forward pass uses: weights dequantized to options' dtype and device.
nn::Linear unpack_linear(const QuantizedLinear& linear, const LinearShape& shape, const QuantizerFormat& format,
                         const at::TensorOptions& options);

/// All quantizers of a block, as the tap that applies them.
nn::Tap quantizing_tap(const PerSite<SiteFakeQuantizer>& sites);

/// What to do about weights that a rotation has made too large.
inline constexpr std::string_view without_rotation = "where a rotation made it so large, leave it out (--no-rotate)";
/// In binary16. Throws UnsupportedError that names the tensor when a finite value is beyond its range.
at::Tensor in_half(const at::Tensor& x, std::string_view name, std::string_view remedy = without_rotation);
/// binary16 bits of a tensor on the CPU, and back. The checked form throws what in_half throws.
std::vector<std::uint16_t> to_half_bits(const at::Tensor& x);
std::vector<std::uint16_t> checked_half_bits(const at::Tensor& x, std::string_view name,
                                             std::string_view remedy = without_rotation);
at::Tensor from_half_bits(const std::uint16_t* bits, at::IntArrayRef shape, const at::TensorOptions& options);
std::vector<float> to_floats(const at::Tensor& x);
at::Tensor from_floats(const std::vector<float>& values, at::IntArrayRef shape, const at::TensorOptions& options);

}  // namespace pq::quant
