#include "numerics/quantize.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "base/error.h"

namespace pq {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
constexpr float largest = std::numeric_limits<float>::max();

TEST(Quantize, Ranges) {
  EXPECT_EQ(quant_range(4, true), (QuantRange{-8, 7}));
  EXPECT_EQ(quant_range(4, false), (QuantRange{0, 15}));
  EXPECT_EQ(quant_range(8, true), (QuantRange{-128, 127}));
  EXPECT_EQ(quant_range(2, false), (QuantRange{0, 3}));
  for (const int bits : {-1, 0, 1, 9, 16}) EXPECT_THROW(quant_range(bits, true), InputError);
  try {
    symmetric_scale(1, 1, 9);
    FAIL();
  } catch (const InputError& error) {
    EXPECT_STREQ(error.what(), "quantizer: 9 bits are not supported; use 2 to 8");
  }
}

TEST(Quantize, SymmetricScale) {
  EXPECT_EQ(symmetric_scale(7.5F, 1, 4), 1.0F);
  EXPECT_EQ(symmetric_scale(15.0F, 0.5F, 4), 1.0F);
  EXPECT_EQ(symmetric_scale(0, 1, 4), 1.0F);
  EXPECT_EQ(symmetric_scale(std::numeric_limits<float>::denorm_min(), 1, 4), 1.0F);
  EXPECT_EQ(symmetric_scale(1e-30F, 1, 4), 1e-30F / 7.5F);  // no minimum scale
  EXPECT_EQ(symmetric_scale(largest, 1, 4), largest / 7.5F);
  EXPECT_TRUE(std::isnan(symmetric_scale(not_a_number, 1, 4)));
}

TEST(Quantize, RoundsHalfToEven) {
  const QuantRange range = quant_range(8, true);
  const std::vector<float> x{-3.5F, -2.5F, -1.5F, -0.5F, 0.5F, 1.5F, 2.5F, 3.5F};
  const std::vector<std::int32_t> expected{-4, -2, -2, 0, 0, 2, 2, 4};
  std::vector<std::int32_t> codes(x.size());
  quantize(x, 1, 0, range, codes);
  EXPECT_EQ(codes, expected);
  EXPECT_EQ(quantize(1.5F, 1, 3, range), 5);  // rounded before z is added
  EXPECT_EQ(quantize(2.5F, 1, 3, range), 5);
}

TEST(Quantize, DividesAndDoesNotMultiplyByTheReciprocal) {
  // 4.5 * s is exact in float32, so the quotient is a tie and goes to 4. The reciprocal of s is rounded and gives
  // another code for some scales, which is what makes this definition worth a test.
  int different = 0;
  for (int i = 1; i < 4000; ++i) {
    const float scale = static_cast<float>(i) / 4096.0F;
    ASSERT_EQ(quantize(4.5F * scale, scale, 0, quant_range(8, true)), 4);
    if (std::nearbyint(4.5F * scale * (1.0F / scale)) != 4) ++different;
  }
  EXPECT_GT(different, 0);
}

TEST(Quantize, Extremes) {
  const QuantRange range = quant_range(4, true);
  EXPECT_EQ(quantize(100, 1, 0, range), 7);
  EXPECT_EQ(quantize(-100, 1, 0, range), -8);
  EXPECT_EQ(quantize(largest, 1e-38F, 0, range), 7);  // x / s overflows
  EXPECT_EQ(quantize(-largest, 1e-38F, 0, range), -8);
  EXPECT_EQ(quantize(infinity, 1, 0, range), 7);
  EXPECT_EQ(quantize(-infinity, 1, 0, range), -8);
  EXPECT_EQ(quantize(not_a_number, 1, 0, range), 0);
  EXPECT_EQ(quantize(not_a_number, 1, 100, quant_range(4, false)), 15);
  EXPECT_EQ(quantize(1e9F, 1, 32767, quant_range(4, false)), 15);
  EXPECT_EQ(quantize(-1e9F, 1, -32767, quant_range(4, false)), 0);
}

TEST(Quantize, DamageStaysVisible) {
  for (const float bad : {not_a_number, infinity, -infinity}) {
    std::vector<float> slice{1, bad, 2};
    const float scale = symmetric_scale(max_abs(slice), 1, 4);
    fake_quantize(slice, scale, 0, quant_range(4, true));
    for (const float value : slice) EXPECT_TRUE(std::isnan(value));

    std::vector<float> affine{1, bad, 2};
    const MinMax bounds = min_max(affine);
    const AffineParams params = affine_params(bounds.min, bounds.max, 1, 1, 4);
    fake_quantize(affine, params.scale, params.zero_point, quant_range(4, false));
    for (const float value : affine) EXPECT_FALSE(std::isfinite(value));
  }
}

TEST(Quantize, AffineParameters) {
  const AffineParams plain = affine_params(-3, 12, 1, 1, 4);
  EXPECT_EQ(plain.scale, 1.0F);
  EXPECT_EQ(plain.zero_point, 3);
  const AffineParams clipped = affine_params(-6, 24, 0.5F, 0.5F, 4);
  EXPECT_EQ(clipped.scale, 1.0F);
  EXPECT_EQ(clipped.zero_point, 3);
  const AffineParams positive = affine_params(100, 115, 1, 1, 4);  // min is not clamped to zero
  EXPECT_EQ(positive.scale, 1.0F);
  EXPECT_EQ(positive.zero_point, -100);  // nor z to the range of codes
  const AffineParams zeros = affine_params(0, 0, 1, 1, 4);
  EXPECT_EQ(zeros.scale, 1.0F);
  EXPECT_EQ(zeros.zero_point, 0);
  const AffineParams tie = affine_params(-0.5F, 14.5F, 1, 1, 4);
  EXPECT_EQ(tie.zero_point, 0);  // 0.5 goes to even
}

TEST(Quantize, ConstantSlicesAreRepresented) {
  for (const float value : {1.0F, -1.0F, 3e-20F, -7e30F, 0.1F, largest / 2, -largest / 2}) {
    for (int bits = 2; bits <= 8; ++bits) {
      const AffineParams params = affine_params(value, value, 1, 1, bits);
      const float back = dequantize(quantize(value, params.scale, params.zero_point, quant_range(bits, false)),
                                    params.scale, params.zero_point);
      EXPECT_NEAR(back / value, 1, 2e-7) << value << ' ' << bits;
    }
  }
}

TEST(Quantize, TinyRangesFarFromZeroKeepA16BitZeroPoint) {
  const float denormal = std::numeric_limits<float>::denorm_min();
  for (const auto& [low, high] : {std::pair{1000.0F, 1000.001F},
                                  {-1000.001F, -1000.0F},
                                  {0.9F, 1.0F},
                                  {40000 * denormal, 40001 * denormal},
                                  {-70000 * denormal, -69000 * denormal}}) {
    const AffineParams params = affine_params(low, high, 1, 0.6F, 8);
    EXPECT_GT(params.scale, 0);
    EXPECT_LE(std::abs(params.zero_point), 32767);
  }
  const AffineParams narrow = affine_params(1000, 1000.001F, 1, 1, 8);
  const float back = dequantize(quantize(1000.0F, narrow.scale, narrow.zero_point, quant_range(8, false)), narrow.scale,
                                narrow.zero_point);
  EXPECT_NEAR(back, 1000, narrow.scale / 2);
}

TEST(Quantize, Slices) {
  std::vector<float> x{-1, 0.25F, 3};
  EXPECT_EQ(max_abs(x), 3);
  EXPECT_EQ(max_abs(std::vector<float>{-4, 3}), 4);
  EXPECT_EQ(max_abs({}), 0);
  EXPECT_TRUE(std::isnan(max_abs(std::vector<float>{1, not_a_number})));
  EXPECT_EQ(min_max(x).min, -1);
  EXPECT_EQ(min_max(x).max, 3);
  std::vector<std::int32_t> two(2);
  EXPECT_THROW(quantize(x, 1, 0, quant_range(4, true), two), InputError);
  EXPECT_THROW(dequantize(two, 1, 0, x), InputError);
  fake_quantize(x, 0.5F, 0, quant_range(3, true));
  EXPECT_EQ(x, (std::vector<float>{-1, 0, 1.5F}));
}

// |x - x^| <= s / 2 plus the rounding of x / s and of the product.
bool near_enough(float x, float back, float scale) {
  return std::fabs(double{x} - back) <= scale / 2.0 + 2e-7 * std::fabs(x) + std::numeric_limits<float>::denorm_min();
}

rc::Gen<float> reasonable_float() {
  return rc::gen::map(
      rc::gen::pair(rc::gen::inRange(-1'000'000, 1'000'001), rc::gen::inRange(-40, 41)),
      [](const std::pair<int, int>& parts) { return std::ldexp(static_cast<float>(parts.first), parts.second - 20); });
}

RC_GTEST_PROP(Quantize, SymmetricErrorIsHalfAStepInsideTheRange, ()) {
  const int bits = *rc::gen::inRange(2, 9);
  const auto x = *rc::gen::nonEmpty(rc::gen::container<std::vector<float>>(reasonable_float()));
  const float scale = symmetric_scale(max_abs(x), 1, bits);
  const QuantRange range = quant_range(bits, true);
  for (const float value : x) {
    const std::int32_t code = quantize(value, scale, 0, range);
    RC_ASSERT(code >= range.low && code <= range.high);
    // The largest positive value lies half a step above the top code: still half a step.
    RC_ASSERT(near_enough(value, dequantize(code, scale, 0), scale));
  }
}

RC_GTEST_PROP(Quantize, AffineErrorIsOneStepInsideTheRange, ()) {
  const int bits = *rc::gen::inRange(2, 9);
  const auto x = *rc::gen::nonEmpty(rc::gen::container<std::vector<float>>(reasonable_float()));
  const MinMax bounds = min_max(x);
  const AffineParams params = affine_params(bounds.min, bounds.max, 1, 1, bits);
  const QuantRange range = quant_range(bits, false);
  RC_ASSERT(params.scale > 0);
  RC_ASSERT(std::abs(params.zero_point) <= 32767);
  for (const float value : x) {
    const std::int32_t code = quantize(value, params.scale, params.zero_point, range);
    const float back = dequantize(code, params.scale, params.zero_point);
    const bool at_an_end = code == range.low || code == range.high;
    // Rounding z may push the ends out of the range of codes by half a step more.
    RC_ASSERT(near_enough(value, back, at_an_end ? 2 * params.scale : params.scale));
  }
}

RC_GTEST_PROP(Quantize, DequantizedCodesAreFixedPoints, ()) {
  const int bits = *rc::gen::inRange(2, 9);
  const QuantRange range = quant_range(bits, *rc::gen::arbitrary<bool>());
  const std::int32_t zero_point = *rc::gen::inRange(-1000, 1001);
  const float scale = std::fabs(*rc::gen::suchThat(reasonable_float(), [](float s) { return s != 0; }));
  const std::int32_t code = *rc::gen::inRange(range.low, range.high + 1);
  RC_ASSERT(quantize(dequantize(code, scale, zero_point), scale, zero_point, range) == code);
}

}  // namespace
}  // namespace pq
