#include "quant/two_level.h"

#include <gtest/gtest.h>

#include <stdexcept>

#include "numerics/two_level.h"
#include "quant/gptq.h"
#include "quant/quantizer.h"

namespace pq::quant {
namespace {

QuantizerFormat format_of(std::int64_t group) {
  return named_recipe("w4g" + std::to_string(group) + "a8kv4-static").weight;
}

/// Rows whose groups differ in size, one of them of zeros, one all positive.
at::Tensor rows_like_weights(std::int64_t out, std::int64_t in) {
  const auto generator = at::detail::createCPUGenerator(5);
  at::Tensor weight = at::randn({out, in}, generator) * at::exp(at::randn({out, 1}, generator));
  for (std::int64_t column = 0; column < in; column += 32) {
    weight.narrow(1, column, std::min<std::int64_t>(32, in - column)).mul_(0.2 + static_cast<double>(column % 96) / 60);
  }
  weight[0].zero_();
  weight[1].abs_();
  return weight;
}

TEST(TwoLevelTensors, EqualTheScalarDefinitionBitForBit) {
  for (const std::int64_t group : {32, 64, 128}) {
    const QuantizerFormat format = format_of(group);
    const at::Tensor weight = rows_like_weights(40, 200);
    const at::Tensor grouped = split_groups(weight, format);
    for (const float clip : {1.0F, 0.85F, 0.55F}) {
      const ScaleTensors scales = weight_scales(weight, at::full({40, grouped.size(1)}, clip), format);
      for (std::int64_t row = 0; row < 40; ++row) {
        const float channel = two_level::channel_scale(weight[row].abs().max().item<float>());
        EXPECT_EQ(scales.channel[row].item<float>(), channel);
        for (std::int64_t g = 0; g < grouped.size(1); ++g) {
          const two_level::GroupScale expected = two_level::group_scale(
              grouped[row][g].min().item<float>() * clip, grouped[row][g].max().item<float>() * clip, channel);
          EXPECT_EQ(scales.scale[row][g].item<float>(), two_level::effective_scale(channel, expected.scale));
          EXPECT_EQ(scales.zero_point[row][g].item<float>(), static_cast<float>(expected.zero_point));
        }
      }
    }
  }
}

TEST(TwoLevelTensors, TheAllowedZeroPointsAreThoseOfNumerics) {
  for (std::int32_t scale = 1; scale <= two_level::largest_group_scale; ++scale) {
    const QuantRange range = two_level::zero_point_range(scale);
    const at::Tensor group_scale = at::full({2}, static_cast<float>(scale));
    const at::Tensor allowed = allowed_zero_points(at::tensor({-100.0F, 100.0F}), group_scale);
    EXPECT_EQ(allowed[0].item<float>(), static_cast<float>(range.low));
    EXPECT_EQ(allowed[1].item<float>(), static_cast<float>(range.high));
  }
}

TEST(TwoLevelTensors, ACheckpointHoldsThemAsTheyAre) {
  const QuantizerFormat format = format_of(64);
  const at::Tensor weight = rows_like_weights(24, 160);
  const at::Tensor gram = at::mm(weight.t(), weight) + at::eye(160);
  const WeightCodes codes = quantize_weight_compensated(weight, at::full({24, 3}, 0.9F), gram, format);
  EXPECT_TRUE(snapped(codes.scales, format).scale.equal(codes.scales.scale));
  EXPECT_TRUE(snapped(codes.scales, format).zero_point.equal(codes.scales.zero_point));
  const QuantizedLinear linear = pack_linear(codes, {}, format);
  EXPECT_EQ(linear.scales.size(), 24U);
  EXPECT_EQ(linear.group_scales.size(), 72U);
  for (std::size_t i = 0; i < linear.group_scales.size(); ++i) {
    EXPECT_TRUE(two_level::fits(linear.group_scales[i], linear.zero_points[i]));
  }
  const WeightCodes back = unpack_codes(linear, {24, 160, false}, format, at::kCPU);
  EXPECT_TRUE(back.codes.equal(codes.codes));
  EXPECT_TRUE(back.scales.scale.equal(codes.scales.scale));
  EXPECT_TRUE(back.scales.zero_point.equal(codes.scales.zero_point));
  EXPECT_TRUE(back.scales.channel.equal(codes.scales.channel));
}

// What tuning leaves is put on the grid again; what is not on it cannot be packed.
TEST(TwoLevelTensors, TunedScalesAreSnappedAgain) {
  const QuantizerFormat format = format_of(32);
  const at::Tensor weight = rows_like_weights(8, 64);
  ScaleTensors tuned = weight_scales(weight, at::ones({8, 2}), format);
  tuned.scale = tuned.scale * 1.03;
  tuned.zero_point = tuned.zero_point + 1;
  EXPECT_THROW(pack_linear({quantize_with_scales(weight, tuned, format), tuned}, {}, format), std::logic_error);
  const ScaleTensors held = snapped(tuned, format);
  EXPECT_NO_THROW(pack_linear({quantize_with_scales(weight, held, format), held}, {}, format));
  EXPECT_THROW(snapped({tuned.scale, tuned.zero_point}, format), std::logic_error);
}

}  // namespace
}  // namespace pq::quant
