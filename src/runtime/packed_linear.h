#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "kernels/kernels.h"
#include "model/block_layout.h"
#include "model/recipe.h"
#include "runtime/aligned_buffer.h"
#include "runtime/segment_plan.h"

namespace pq::runtime {

/// A quantized linear layer as the checkpoint holds it; `codes` stays in the mapped file.
struct QuantizedSource {
  std::string where;  ///< file and tensor, for messages
  LinearShape shape;
  QuantizerFormat format;
  std::span<const std::byte> codes;           ///< [out, row_bytes] (docs/checkpoint-format.md)
  std::span<const float> scales;              ///< [out, groups]
  std::span<const std::int16_t> zero_points;  ///< [out, groups]; empty when symmetric
  std::span<const float> bias;                ///< [out], or empty

  std::int64_t groups() const;
  /// Zero point of a stored code: 2^(bits - 1) for symmetric formats.
  std::int32_t zero(std::int64_t channel, std::int64_t group) const;
};

/// Whether the 32-bit sums of this layer cannot overflow: a segment's columns times the largest |code - zero point| of
/// both factors stay below 2^31.
bool sums_fit(const QuantizedSource& source, const SegmentPlan& plan);

/// A linear layer packed for the kernels: either integer codes or floating-point weights.
class PackedLinear {
 public:
  PackedLinear() = default;

  /// Throws FormatError when the codes do not have the shape's size, UnsupportedError when sums could overflow.
  static PackedLinear pack_codes(const QuantizedSource& source, const SegmentPlan& plan);
  /// The same layer dequantized to float32.
  static PackedLinear dequantize(const QuantizedSource& source);
  /// F16, BF16, F32 or F64 (to float32) as the file has it, [out, in]. Throws FormatError for a weight that is not
  /// finite.
  static PackedLinear pack_floats(const io::TensorView& weight, std::span<const float> bias);
  /// int8, one symmetric scale a row (numerics/quantize.h, clip factor 1), to be read by 16-bit activations.
  static PackedLinear pack_rows_to_8_bits(const io::TensorView& weight, const kernels::KernelTable& table);

  bool integer() const { return integer_; }
  const kernels::IntWeights& codes() const { return codes_; }
  const kernels::FloatWeights& floats() const { return floats_; }
  std::int64_t panels() const { return integer_ ? codes_.panels : floats_.panels; }
  std::int64_t channels() const { return integer_ ? codes_.channels : floats_.channels; }
  /// Of codes or weights, scales and bias.
  std::uint64_t bytes() const { return storage_.size() + parameters_.size() + bias_.size(); }

 private:
  void set_bias(std::span<const float> bias, std::int64_t panels);
  /// A zero point that all share, or none.
  void make_int_weights(std::int64_t channels, const SegmentPlan& plan, int bits,
                        std::optional<std::int32_t> common_zero);
  template <typename T>
  static PackedLinear pack_elements(const io::TensorView& weight, kernels::FloatFormat format,
                                    std::span<const float> bias);

  bool integer_ = false;
  kernels::IntWeights codes_{};
  kernels::FloatWeights floats_{};
  AlignedBuffer storage_;
  AlignedBuffer parameters_;  // scale, sum, zero (where there is more than one)
  AlignedBuffer bias_;
};

}  // namespace pq::runtime
