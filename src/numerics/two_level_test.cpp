#include "numerics/two_level.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "base/random.h"

namespace pq::two_level {
namespace {

bool is_int8(std::int32_t x) { return x >= -128 && x <= 127; }

TEST(TwoLevel, ZeroPointsInRangeKeepEveryCodeAnInt8) {
  for (std::int32_t scale = 1; scale <= largest_group_scale; ++scale) {
    const QuantRange range = zero_point_range(scale);
    EXPECT_LE(range.low, range.high) << scale;
    for (std::int32_t zero = -1; zero <= 16; ++zero) {
      bool every = zero >= 0 && zero <= largest_code;
      for (std::int32_t code = 0; code <= largest_code; ++code) every = every && is_int8((code - zero) * scale);
      EXPECT_EQ(fits(scale, zero), every) << scale << " " << zero;
      EXPECT_EQ(every, zero >= range.low && zero <= range.high) << scale << " " << zero;
    }
  }
  EXPECT_FALSE(fits(0, 8));
  EXPECT_FALSE(fits(17, 7));
  EXPECT_FALSE(fits(17, 8));
}

/// How far, in steps, the worst whole weight of a group that spans low .. high (units of s_c) is from its level.
float worst_error(std::int32_t low, std::int32_t high) {
  const GroupScale group = group_scale(static_cast<float>(low), static_cast<float>(high), 1.0F);
  EXPECT_TRUE(fits(group.scale, group.zero_point)) << low << " " << high;
  float worst = 0;
  for (const std::int32_t weight : {low, high}) {
    const std::int32_t code =
        quantize(static_cast<float>(weight), effective_scale(1.0F, group.scale), group.zero_point, {0, largest_code});
    const std::int32_t level = (code - group.zero_point) * group.scale;
    EXPECT_TRUE(is_int8(level)) << low << " " << high;
    worst = std::max(worst, static_cast<float>(std::abs(level - weight)) / static_cast<float>(group.scale));
  }
  return worst;
}

// Rounding s_g down leaves up to 15 / 4 / s_g of a step at the ends; nothing else is lost in the protective range.
TEST(TwoLevel, EveryGroupOfTheProtectiveRangeIsHeld) {
  for (std::int32_t low = -protective_range; low <= 0; ++low) {
    for (std::int32_t high = 0; high <= protective_range; ++high) {
      const GroupScale group = group_scale(static_cast<float>(low), static_cast<float>(high), 1.0F);
      const float range_cut = std::max(0.0F, static_cast<float>(high - low) / static_cast<float>(group.scale) - 15.0F);
      EXPECT_LE(worst_error(low, high), 1.0F + range_cut) << low << " " << high;
    }
  }
}

// The reason for 119: with every zero point that is allowed, ±119 is within half a step of a level that is, at one end
// or the other; ±127 is not.
TEST(TwoLevel, MovedZeroPointsReachTheProtectiveRangeAndNoFurther) {
  const auto reaches = [](std::int32_t range) {
    bool all = true;
    for (std::int32_t scale = 1; scale <= largest_group_scale; ++scale) {
      const QuantRange zero = zero_point_range(scale);
      if (zero.low > 0) all = all && 2 * ((largest_code - zero.low) * scale) + scale >= 2 * range;
      if (zero.high < largest_code) all = all && 2 * (zero.high * scale) + scale >= 2 * range;
    }
    return all;
  };
  EXPECT_TRUE(reaches(protective_range));
  EXPECT_FALSE(reaches(127));
}

// What QoQ computes, whose zero point is not moved: its codes stay in int8 for the protective range, not for ±127.
TEST(TwoLevel, AWiderRangeOverflowsWithoutMovedZeroPoints) {
  const auto overflows = [](std::int32_t range) {
    for (std::int32_t low = -range; low <= 0; ++low) {
      for (std::int32_t high = 0; high <= range; ++high) {
        const auto scale =
            static_cast<std::int32_t>(std::max(1.0F, std::nearbyint(static_cast<float>(high - low) / 15)));
        const auto zero =
            static_cast<std::int32_t>(std::nearbyint(static_cast<float>(-low) / static_cast<float>(scale)));
        for (const std::int32_t weight : {low, high}) {
          const std::int32_t code =
              quantize(static_cast<float>(weight), static_cast<float>(scale), zero, {0, largest_code});
          if (!is_int8((code - zero) * scale)) return true;
        }
      }
    }
    return false;
  };
  EXPECT_FALSE(overflows(protective_range));
  EXPECT_TRUE(overflows(127));
}

TEST(TwoLevel, SnappingTwiceChangesNothing) {
  Random random(1, "two-level");
  for (int i = 0; i < 20000; ++i) {
    const float channel = channel_scale(static_cast<float>(std::exp(8 * random.normal())));
    const float low = channel * 119 * static_cast<float>(random.normal());
    const GroupScale group = group_scale(low, low + channel * 200 * static_cast<float>(random.uniform()), channel);
    ASSERT_TRUE(fits(group.scale, group.zero_point));
    const float scale = effective_scale(channel, group.scale);
    const auto zero = static_cast<float>(group.zero_point);
    EXPECT_EQ(group_scale(-zero * scale, (largest_code - zero) * scale, channel), group);
  }
}

TEST(TwoLevel, EveryGroupFitsTheWidestOfItsRow) {
  EXPECT_EQ(group_scale(-119, 119, 1), (GroupScale{16, 8}));
  EXPECT_EQ(group_scale(0, 119, 1), (GroupScale{8, 0}));
  EXPECT_EQ(group_scale(-119, 0, 1), (GroupScale{8, 15}));
  EXPECT_EQ(group_scale(50, 119, 1), (GroupScale{8, 0})) << "0 is always held";
  EXPECT_EQ(group_scale(-1, 1, 1), (GroupScale{1, 1}));
  EXPECT_EQ(group_scale(0, 0, 1), (GroupScale{1, 0}));
}

TEST(TwoLevel, OddRowsGiveScalesThatFit) {
  EXPECT_EQ(channel_scale(0), 1.0F);
  EXPECT_EQ(channel_scale(1e-45F), 1.0F) << "119 of it would not be told from 0";
  const float infinite = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(std::isfinite(channel_scale(infinite)));
  EXPECT_FALSE(std::isfinite(channel_scale(nan)));
  for (const float low : {nan, -infinite, -3e38F, 0.0F}) {
    for (const float high : {nan, infinite, 3e38F, 0.0F}) {
      for (const float channel : {nan, infinite, 1e-44F, 1.0F}) {
        const GroupScale group = group_scale(low, high, channel);
        EXPECT_TRUE(fits(group.scale, group.zero_point)) << low << " " << high << " " << channel;
      }
    }
  }
}

}  // namespace
}  // namespace pq::two_level
