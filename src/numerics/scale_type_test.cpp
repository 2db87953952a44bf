#include "numerics/scale_type.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <stdexcept>

#include "base/half.h"
#include "base/random.h"

namespace pq {
namespace {

float through_f16(float x) { return f16_to_float(float_to_f16(x)); }
float through_bf16(float x) { return bf16_to_float(float_to_bf16(x)); }

float any_scale(Random& random) { return static_cast<float>(std::exp(random.normal() * 8)); }

TEST(ScaleType, SymmetricScalesAreThoseOfTheType) {
  Random random(1, "scales");
  const ScaleGrid f16 = scale_grid(ScaleType::f16, 4, true);
  const ScaleGrid bf16 = scale_grid(ScaleType::bf16, 4, true);
  for (int i = 0; i < 20000; ++i) {
    const float scale = any_scale(random);
    EXPECT_EQ(nearest_scale(scale, bf16), through_bf16(scale));
    if (scale > 3e-8F && scale < 65504) {
      EXPECT_EQ(nearest_scale(scale, f16), through_f16(scale)) << scale;
    }
    const float held = nearest_scale(scale, f16);
    EXPECT_EQ(held, through_f16(held));
    EXPECT_EQ(held, nearest_scale(held, f16));
  }
  EXPECT_EQ(nearest_scale(1e-20F, f16), std::ldexp(1.0F, -24));  // never 0
  EXPECT_EQ(nearest_scale(1e20F, f16), 65504);                   // never infinite
  EXPECT_TRUE(std::isnan(nearest_scale(std::numeric_limits<float>::quiet_NaN(), f16)));
  EXPECT_THROW(scale_grid(ScaleType::float32, 4, true), std::logic_error);
}

TEST(ScaleType, ZeroPointTimesScaleIsBinary16) {
  Random random(2, "scales");
  int inexact = 0;  // with all 11 digits, which is the variant that must fail
  for (int i = 0; i < 20000; ++i) {
    const int bits = 2 + static_cast<int>(random.below(3));
    const float scale = any_scale(random);
    const float held = nearest_scale(scale, scale_grid(ScaleType::f16, bits, false));
    for (int zero = 0; zero < 1 << bits; ++zero) {
      const float product = static_cast<float>(zero) * held;
      EXPECT_EQ(product, through_f16(product)) << zero << " * " << held;
      const float other = static_cast<float>(zero) * nearest_scale(scale, scale_grid(ScaleType::f16, bits, true));
      inexact += other != through_f16(other);
    }
  }
  EXPECT_GT(inexact, 1000);
}

TEST(ScaleType, ZeroPointsAreAmongTheCodes) {
  for (const ScaleType type : {ScaleType::f16, ScaleType::bf16}) {
    const AffineParams above = affine_params(3, 5, 1, 1, 4, type);  // zero is taken in
    EXPECT_EQ(above.zero_point, 0);
    EXPECT_NEAR(above.scale, 5.0F / 15, 5.0F / 15 / 128);
    const AffineParams below = affine_params(-5, -3, 1, 1, 4, type);
    EXPECT_EQ(below.zero_point, 15);
    const AffineParams around = affine_params(-5, 3, 0.9F, 0.9F, 8, type);
    EXPECT_EQ(around.zero_point, type == ScaleType::f16 ? 159 : 160);
    const AffineParams zeros = affine_params(0, 0, 1, 1, 4, type);
    EXPECT_EQ(zeros.scale, 1);
    EXPECT_EQ(zeros.zero_point, 0);
    EXPECT_GE(affine_params(-1e6F, 1e6F, 1, 1, 4, type).scale, 4096);
  }
  EXPECT_LT(affine_params(3, 5, 1, 1, 4, ScaleType::float32).zero_point, 0);
}

}  // namespace
}  // namespace pq
