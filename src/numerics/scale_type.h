#pragma once

#include <cstdint>

#include "numerics/quantize.h"

namespace pq {

/// The floats that a weight scale may be. The 16-bit ones are what other programs' files hold: scales are rounded to
/// them before codes are chosen, so that an export gives the same weights, bit for bit. They take one more thing along:
/// zero points then lie among the codes, 0 .. 2^bits - 1, because those files have room for no others.
enum class ScaleType { float32, f16, bf16 };

/// Scales of `digits` significant bits that are whole multiples of `smallest` and at most `largest`.
struct ScaleGrid {
  int digits;
  float smallest;
  float largest;
};

/// Those of one of the 16-bit types. Binary16 beside zero points of up to 4 bits keeps 11 - bits digits, so that zero
/// point times scale is a binary16 number, too: GGUF's Q4_1 holds that product. Throws std::logic_error for float32.
ScaleGrid scale_grid(ScaleType type, int bits, bool symmetric);

/// The nearest scale of the grid, ties to an even last digit; the nearest end for a scale beyond it. NaN stays.
float nearest_scale(float scale, const ScaleGrid& grid);

/// symmetric_scale() and affine_params() for scales of a type. Of a 16-bit type, asymmetric: the range takes in zero,
/// s = nearest_scale((high - low) / (2^bits - 1)), z = clamp(round(-low / s), 0, 2^bits - 1).
float symmetric_scale(float max_abs, float clip, int bits, ScaleType type);
AffineParams affine_params(float min, float max, float beta, float gamma, int bits, ScaleType type);

}  // namespace pq
