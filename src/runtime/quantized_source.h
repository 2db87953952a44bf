#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "model/block_layout.h"
#include "model/recipe.h"
#include "numerics/two_level.h"
#include "runtime/segment_plan.h"

namespace pq::runtime {

/// A quantized linear layer as the checkpoint holds it; `codes` stays in the mapped file.
struct QuantizedSource {
  std::string where;  ///< file and tensor, for messages
  LinearShape shape;
  QuantizerFormat format;
  std::span<const std::byte> codes;              ///< [out, row_bytes] (docs/checkpoint-format.md)
  std::span<const float> scales;                 ///< [out, groups]; [out] of two-level scales
  std::span<const std::int16_t> zero_points;     ///< [out, groups]; empty when symmetric
  std::span<const float> bias;                   ///< [out], or empty
  std::span<const std::uint8_t> group_scales{};  ///< [out, groups] of two-level scales, else empty

  std::int64_t groups() const { return format.groups(shape.in_features); }
  std::size_t at(std::int64_t channel, std::int64_t group) const {
    return static_cast<std::size_t>(channel * groups() + group);
  }
  /// What a group's (code - zero point) is multiplied by, in one number.
  float scale(std::int64_t channel, std::int64_t group) const {
    return format.two_level ? two_level::effective_scale(float_scale(channel, group), group_scale(channel, group))
                            : float_scale(channel, group);
  }
  /// The same as a float and a whole number, which is 1 but for two-level scales.
  float float_scale(std::int64_t channel, std::int64_t group) const {
    return scales[format.two_level ? static_cast<std::size_t>(channel) : at(channel, group)];
  }
  std::int32_t group_scale(std::int64_t channel, std::int64_t group) const {
    return format.two_level ? group_scales[at(channel, group)] : 1;
  }
  /// Zero point of a stored code: 2^(bits - 1) for symmetric formats.
  std::int32_t zero(std::int64_t channel, std::int64_t group) const {
    return format.symmetric ? 1 << (format.bits - 1) : zero_points[at(channel, group)];
  }

  /// Throws FormatError when something does not have the shape's size, or group scales do not fit
  /// (numerics/two_level.h).
  void check() const;
};

/// Whether the 32-bit sums of this layer cannot overflow: a segment's columns times the largest |code - zero point| of
/// both factors stay below 2^31.
bool sums_fit(const QuantizedSource& source, const SegmentPlan& plan);

}  // namespace pq::runtime
