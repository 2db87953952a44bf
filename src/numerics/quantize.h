#pragma once

#include <cstdint>
#include <span>

namespace pq {

/// What a quantized number means (ALGORITHM.md section 5). This scalar code is the definition: export and kernels are
/// tested against it. All arithmetic is float32, one rounding an operation, in the order written here (no fused
/// multiply-add).
///
///   q = clamp(round(x / s) + z, low, high),   x^ = (q - z) * s
///
/// round is to nearest, ties to even, and needs the default rounding mode. x / s is a division: multiplying by a
/// reciprocal gives other codes.
///
/// What is not finite: a scale computed from a slice that holds a NaN or an infinity is not finite, and every value
/// dequantized with it is a NaN, so that the damage stays visible. quantize() itself gives a code for every x: that of
/// 0 for a NaN, an end of the range for an infinity.

/// Codes run from low to high, both included.
struct QuantRange {
  std::int32_t low;
  std::int32_t high;
  bool operator==(const QuantRange&) const = default;
};

/// Symmetric: -2^(bits-1) .. 2^(bits-1) - 1. Asymmetric: 0 .. 2^bits - 1. Throws InputError unless bits is 2..8.
QuantRange quant_range(int bits, bool symmetric);

/// s = (clip * max_abs) / ((2^bits - 1) / 2), which is 2 * clip * max_abs / (2^bits - 1) without its overflow.
/// A slice of zeros has s = 1, as does one so small that s would be 0; no other minimum. Throws InputError unless bits
/// is 2..8.
float symmetric_scale(float max_abs, float clip, int bits);

struct AffineParams {
  float scale;
  std::int32_t zero_point;  ///< fits in an int16_t; may lie outside the range of the codes
};

/// s = max((gamma * max - beta * min) / (2^bits - 1), |beta * min| / 32767),  z = round(-(beta * min) / s).
/// min and max are those of the slice as they are; a slice that does not straddle zero keeps its narrow range. The
/// second bound is what lets z fit in 16 bits. It binds only where the range is tiny against its distance from zero:
/// for a constant slice (a relative error below 2e-7), and where clip factors push the upper bound below the lower one.
/// A slice of zeros has s = 1 and z = 0. Throws InputError unless bits is 2..8.
AffineParams affine_params(float min, float max, float beta, float gamma, int bits);

std::int32_t quantize(float x, float scale, std::int32_t zero_point, QuantRange range);
float dequantize(std::int32_t code, float scale, std::int32_t zero_point);

/// Largest |x|, and smallest and largest x, of a slice; 0 for an empty one, NaN when it holds one.
struct MinMax {
  float min;
  float max;
};
float max_abs(std::span<const float> x);
MinMax min_max(std::span<const float> x);

/// The same for a slice that shares one scale and zero point. Sizes must be equal (InputError).
void quantize(std::span<const float> x, float scale, std::int32_t zero_point, QuantRange range,
              std::span<std::int32_t> codes);
void dequantize(std::span<const std::int32_t> codes, float scale, std::int32_t zero_point, std::span<float> x);
/// x <- dequantize(quantize(x)).
void fake_quantize(std::span<float> x, float scale, std::int32_t zero_point, QuantRange range);

}  // namespace pq
