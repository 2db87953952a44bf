#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "io/safetensors.h"
#include "kernels/kernels.h"
#include "runtime/aligned_buffer.h"
#include "runtime/quantized_source.h"
#include "runtime/segment_plan.h"

namespace pq::runtime {

/// A linear layer packed for the kernels: either integer codes or floating-point weights.
class PackedLinear {
 public:
  PackedLinear() = default;

  /// Throws what QuantizedSource::check throws, and UnsupportedError when sums could overflow.
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
  /// Panels [first, last) as a layer of their own, which looks into this one.
  kernels::IntWeights codes(std::int64_t first, std::int64_t last) const;
  kernels::FloatWeights floats(std::int64_t first, std::int64_t last) const;
  std::int64_t panels() const { return integer_ ? codes_.panels : floats_.panels; }
  std::int64_t channels() const { return integer_ ? codes_.channels : floats_.channels; }
  /// Of codes or weights, scales and bias.
  std::uint64_t bytes() const { return storage_.size() + parameters_.size() + bias_.size(); }

 private:
  void set_bias(std::span<const float> bias, std::int64_t panels);
  /// A zero point that all share, or none. `group`: columns in a group of two-level weights, else 0.
  void make_int_weights(std::int64_t channels, const SegmentPlan& plan, int bits,
                        std::optional<std::int32_t> common_zero, std::int64_t group = 0);
  /// Codes and group scales of an integer panel, to be filled.
  std::uint8_t* panel_codes(std::int64_t panel) {
    return reinterpret_cast<std::uint8_t*>(storage_.data()) + panel * codes_.panel_bytes;
  }
  std::uint8_t* panel_groups(std::int64_t panel) { return panel_codes(codes_.panels) + panel * codes_.group_bytes; }
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
