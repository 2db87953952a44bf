#pragma once

#include <cstdint>

#include "numerics/quantize.h"

namespace pq {

/// Two-level weight groups: progressive group quantization of QServe (QoQ, arXiv 2405.04532, section 4.1). A row has
/// one float32 channel scale s_c; a group of its columns has a whole scale s_g of 1..16 and a zero point z of 0..15:
///
///   q = clamp(round(w / (s_c * s_g)) + z, 0, 15),   w^ = s_c * ((q - z) * s_g)
///
/// (q - z) * s_g is an int8 for every code, so that products with integer activations need no float before the end of
/// the row. It is, because z keeps inside zero_point_range(s_g); and that costs nothing, because the row lies in the
/// protective range, |w| <= 119 s_c: the levels of a group whose z was moved still reach to half a step from ±119, for
/// every s_g up to 16 (above 16 no z would be allowed).
///
/// Float code computes with the effective scale s_c * s_g, one float32 product. All arithmetic is float32, one rounding
/// an operation, in the order written here.
namespace two_level {

inline constexpr int bits = 4;
inline constexpr std::int32_t protective_range = 119;
inline constexpr std::int32_t largest_group_scale = 16;
inline constexpr std::int32_t largest_code = 15;

struct GroupScale {
  std::int32_t scale;       ///< 1..16
  std::int32_t zero_point;  ///< 0..15
  bool operator==(const GroupScale&) const = default;
};

/// The zero points with which (q - z) * scale is in -128..127 for every code q; scale 1..16.
QuantRange zero_point_range(std::int32_t scale);
/// Whether scale and zero point are such.
bool fits(std::int32_t scale, std::int32_t zero_point);

/// s_c = max_abs / 119 of a whole row as it is, unclipped; 1 where that is 0.
float channel_scale(float max_abs);

/// The group scale that holds low .. high (and 0) best: s_g = round((high - low) / 15 / s_c), z = round(-low / (s_c *
/// s_g)), both clamped. What effective_scale and z of a result hold, -z * s .. (15 - z) * s, gives the same result.
GroupScale group_scale(float low, float high, float channel_scale);

inline float effective_scale(float channel_scale, std::int32_t group_scale) {
  return channel_scale * static_cast<float>(group_scale);
}

}  // namespace two_level
}  // namespace pq
