#include "runtime/packed_linear.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "base/half.h"
#include "base/index.h"
#include "base/random.h"
#include "kernels/scalar/stored_code.h"
#include "kernels/select.h"
#include "numerics/packing.h"
#include "numerics/quantize.h"
#include "numerics/two_level.h"

namespace pq::runtime {
namespace {

using kernels::panel_channels;
using testing::HasSubstr;

/// A random layer in the checkpoint's packing.
struct Layer {
  Layer(std::int64_t out, std::int64_t in, int bits, bool symmetric, std::int64_t group, std::uint64_t seed) {
    Random random(seed, "layer");
    format = {bits, symmetric, ScaleMode::static_scale, group > 0 ? Granularity::group : Granularity::channel, group};
    shape = {out, in, true};
    const std::int64_t row_bytes = packed_row_bytes(in, bits);
    packed.resize(index(out * row_bytes));
    for (std::int64_t row = 0; row < out; ++row) {
      std::vector<std::int32_t> of_row(index(in));
      for (std::int32_t& code : of_row) code = static_cast<std::int32_t>(random.below(std::uint64_t{1} << bits));
      pack_row(of_row, bits, false, std::span(packed).subspan(index(row * row_bytes), index(row_bytes)));
      codes.push_back(of_row);
      bias.push_back(static_cast<float>(random.normal()));
      // Bits behind a row's last code mean nothing.
      if (in * bits % 8 != 0)
        packed[index((row + 1) * row_bytes - 1)] |= static_cast<std::uint8_t>(0xff << (in * bits % 8));
    }
    const QuantizedSource source = view();
    for (std::int64_t i = 0; i < out * source.groups(); ++i) {
      scales.push_back(static_cast<float>(0.01 + random.uniform()));
      if (!symmetric) zero_points.push_back(static_cast<std::int16_t>(static_cast<int>(random.below(40)) - 20));
    }
  }
  /// Two-level scales in place of those.
  void make_two_level() {
    format.two_level = true;
    Random random(7, "group scales");
    scales.resize(index(shape.out_features));
    for (std::int16_t& zero_point : zero_points) {
      group_scales.push_back(static_cast<std::uint8_t>(1 + random.below(16)));
      const QuantRange range = two_level::zero_point_range(group_scales.back());
      zero_point = static_cast<std::int16_t>(random.below(2) == 0 ? range.low : range.high);
    }
  }
  QuantizedSource view() const {
    return {"file: tensor 'w'", shape, format,      std::as_bytes(std::span(packed)), scales,
            zero_points,        bias,  group_scales};
  }

  LinearShape shape{};
  QuantizerFormat format;
  std::vector<std::uint8_t> packed;
  std::vector<std::vector<std::int32_t>> codes;
  std::vector<float> scales;
  std::vector<std::int16_t> zero_points;
  std::vector<float> bias;
  std::vector<std::uint8_t> group_scales;
};

QuantizerFormat activation_of(int bits) {
  QuantizerFormat format;
  format.bits = bits;
  return format;
}

void expect_packed(const Layer& layer, const PackedLinear& packed, const SegmentPlan& plan) {
  const kernels::IntWeights& weights = packed.codes();
  ASSERT_EQ(weights.columns, plan.padded);
  ASSERT_EQ(weights.channels, layer.shape.out_features);
  for (std::int64_t channel = 0; channel < weights.panels * panel_channels; ++channel) {
    const std::int64_t panel = channel / panel_channels;
    const std::int64_t lane = channel % panel_channels;
    const bool real = channel < weights.channels;
    EXPECT_EQ(weights.bias[channel], real ? layer.bias[index(channel)] : 0.0F);
    for (std::int64_t segment = 0; segment < weights.segments; ++segment) {
      const std::int64_t at = (panel * weights.segments + segment) * panel_channels + lane;
      const std::int32_t zero = weights.zero != nullptr ? weights.zero[at] : weights.common_zero;
      std::int32_t sum = 0;
      for (std::int64_t c = segment * weights.segment; c < std::min((segment + 1) * weights.segment, plan.columns);
           ++c) {
        const std::int32_t code =
            kernels::scalar::stored_code(weights.codes + panel * weights.panel_bytes, weights.bits, c, lane);
        ASSERT_EQ(code, real ? layer.codes[index(channel)][index(c)] : 0) << "channel " << channel << " column " << c;
        if (!real) continue;
        const std::int64_t group = layer.format.granularity == Granularity::group ? c / layer.format.group : 0;
        ASSERT_EQ(weights.scale[at], layer.scales[index(channel * layer.view().groups() + group)]);
        ASSERT_EQ(zero, layer.view().zero(channel, group));
        sum += code - zero;
      }
      EXPECT_EQ(weights.sum[at], sum) << "channel " << channel << " segment " << segment;
    }
  }
}

TEST(PackedLinear, HoldsTheCodesOfTheCheckpoint) {
  std::uint64_t seed = 0;
  for (int bits = 2; bits <= 8; ++bits) {
    for (const bool symmetric : {true, false}) {
      for (const std::int64_t group : {0, 32, 96, 128}) {
        for (const std::int64_t in : {7, 32, 45, 160, 257}) {
          const Layer layer(in % 2 == 0 ? 16 : 35, in, bits, symmetric, group, ++seed);
          for (const int activation : {8, 16}) {
            const SegmentPlan plan = plan_segments(layer.format, activation_of(activation), in, 0);
            ASSERT_TRUE(plan.integer);
            SCOPED_TRACE(testing::Message() << bits << " bits, group " << group << ", " << in << " columns");
            expect_packed(layer, PackedLinear::pack_codes(layer.view(), plan), plan);
          }
        }
      }
    }
  }
}

TEST(PackedLinear, TwoLevelGroupsStandBehindTheCodesOfAllPanels) {
  for (const std::int64_t group : {32, 64, 128}) {
    for (const std::int64_t in : {20, 64, 160, 250}) {
      for (const int activation : {8, 16}) {
        Layer layer(35, in, 4, false, group, 9);
        layer.make_two_level();
        const SegmentPlan plan = plan_segments(layer.format, activation_of(activation), in, 0);
        const PackedLinear packed = PackedLinear::pack_codes(layer.view(), plan);
        const kernels::IntWeights& weights = packed.codes();
        ASSERT_EQ(weights.common_zero, 128);
        ASSERT_EQ(weights.zero, nullptr);
        ASSERT_EQ(weights.segments, activation == 8 ? 1 : (plan.padded + 127) / 128);
        for (std::int64_t channel = 0; channel < 35; ++channel) {
          const std::int64_t panel = channel / panel_channels;
          const std::int64_t lane = channel % panel_channels;
          std::vector<std::int32_t> sums(index(weights.segments));
          for (std::int64_t c = 0; c < in; ++c) {
            const std::uint8_t byte =
                weights.group_scales[panel * weights.group_bytes + c / weights.group * panel_channels + lane];
            const std::size_t at = layer.view().at(channel, c / group);
            ASSERT_EQ(byte % 16 + 1, layer.group_scales[at]);
            ASSERT_EQ(byte / 16, layer.zero_points[at]);
            const std::int32_t code =
                kernels::scalar::stored_code(weights.codes + panel * weights.panel_bytes, 4, c, lane);
            ASSERT_EQ(code, layer.codes[index(channel)][index(c)]);
            sums[index(c / weights.segment)] += (code - layer.zero_points[at]) * layer.group_scales[at];
          }
          for (std::int64_t segment = 0; segment < weights.segments; ++segment) {
            const std::int64_t at = (panel * weights.segments + segment) * panel_channels + lane;
            EXPECT_EQ(weights.sum[at], sums[index(segment)]);
            EXPECT_EQ(weights.scale[at], layer.scales[index(channel)]);
          }
        }
      }
    }
  }
}

TEST(PackedLinear, GroupScalesThatDoNotFitAreRefused) {
  Layer layer(16, 64, 4, false, 32, 9);
  layer.make_two_level();
  const SegmentPlan plan = plan_segments(layer.format, activation_of(8), 64, 0);
  EXPECT_NO_THROW(PackedLinear::pack_codes(layer.view(), plan));
  layer.group_scales[3] = 16;
  layer.zero_points[3] = 7;
  EXPECT_THROW(PackedLinear::pack_codes(layer.view(), plan), FormatError);
  EXPECT_THROW(PackedLinear::dequantize(layer.view()), FormatError);
}

TEST(PackedLinear, FloatPathHoldsTheDequantizedWeights) {
  const Layer layer(19, 45, 3, false, 20, 1);
  const PackedLinear packed = PackedLinear::dequantize(layer.view());
  const auto* values = static_cast<const float*>(packed.floats().values);
  ASSERT_EQ(packed.floats().columns, 46);
  for (std::int64_t channel = 0; channel < 19; ++channel) {
    for (std::int64_t c = 0; c < 45; ++c) {
      const float expected =
          dequantize(layer.codes[index(channel)][index(c)], layer.scales[index(channel * 3 + c / 20)],
                     layer.zero_points[index(channel * 3 + c / 20)]);
      EXPECT_EQ(values[(channel / 16 * 46 + c) * 16 + channel % 16], expected);
    }
  }
}

TEST(PackedLinear, EightBitRowsAreThoseOfNumerics) {
  Random random(3, "rows");
  std::vector<std::uint16_t> halves(18 * 150);
  for (std::uint16_t& half : halves) half = float_to_f16(static_cast<float>(random.normal()));
  const io::TensorView view{"lm_head.weight", io::DType::f16, {18, 150}, std::as_bytes(std::span(halves)), "file"};
  for (const kernels::KernelTable* table : kernels::kernel_tables()) {
    if (!kernels::supported(*table)) continue;
    const PackedLinear packed = PackedLinear::pack_rows_to_8_bits(view, *table);
    const kernels::IntWeights& weights = packed.codes();
    for (std::int64_t channel = 0; channel < 18; ++channel) {
      std::vector<float> row(150);
      for (std::size_t i = 0; i < row.size(); ++i) row[i] = f16_to_float(halves[index(channel) * 150 + i]);
      const float scale = symmetric_scale(max_abs(row), 1, 8);
      for (std::int64_t c = 0; c < 150; ++c) {
        const std::int32_t code =
            kernels::scalar::stored_code(weights.codes + channel / 16 * weights.panel_bytes, 8, c, channel % 16);
        ASSERT_EQ(code - weights.common_zero, quantize(row[index(c)], scale, 0, quant_range(8, true)));
      }
      EXPECT_EQ(weights.scale[channel / 16 * weights.segments * 16 + channel % 16], scale);
    }
  }
  halves[1000] = 0x7c00;
  EXPECT_THROW(PackedLinear::pack_rows_to_8_bits(view, *kernels::kernel_tables().front()), FormatError);
  EXPECT_THROW(PackedLinear::pack_floats(view, {}), FormatError);
}

TEST(PackedLinear, RefusesWhatDoesNotFit) {
  Layer layer(16, 64, 4, false, 0, 1);
  const SegmentPlan plan = plan_segments(layer.format, activation_of(8), 64, 0);
  const auto message = [&] {
    try {
      PackedLinear::pack_codes(layer.view(), plan);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(message(), "");
  layer.packed.pop_back();
  EXPECT_THAT(message(), HasSubstr("file: tensor 'w': has 511 bytes of codes, its shape asks for 512"));
  layer.packed.push_back(0);
  layer.scales.pop_back();
  EXPECT_THAT(message(), HasSubstr("scales"));
  layer.scales.push_back(1);
  layer.zero_points[3] = -32768;
  EXPECT_EQ(message(), "");
  layer.shape.in_features = 1024;
  layer.packed.resize(16 * 512);
  EXPECT_THROW(PackedLinear::pack_codes(layer.view(), plan_segments(layer.format, activation_of(8), 1024, 0)),
               UnsupportedError);
}

TEST(SegmentPlan, KnowsWhichFormatsFitTheKernels) {
  const auto plan = [](std::int64_t weight_group, const char* setting, std::int64_t columns) {
    Recipe recipe = named_recipe("w4a4kv4-dynamic");
    if (weight_group > 0) recipe.weight = {4, true, ScaleMode::static_scale, Granularity::group, weight_group};
    if (*setting != '\0') {
      apply_setting(recipe, "activation.granularity=group");
      apply_setting(recipe, setting);
    }
    return plan_segments(recipe.weight, recipe.activation, columns, 0);
  };
  EXPECT_EQ(plan(0, "", 100).segment, 128);
  EXPECT_EQ(plan(64, "", 256).segments, 4);
  EXPECT_EQ(plan(64, "activation.group=128", 256).segment, 64);
  EXPECT_EQ(plan(128, "activation.group=64", 256).segment, 64);
  EXPECT_EQ(plan(0, "activation.group=64", 250).segments, 4);
  Recipe two_level = named_recipe("w4g64a8kv4-static");
  EXPECT_EQ(plan_segments(two_level.weight, two_level.activation, 250, 0).segments, 1) << "only activations cut it";
  two_level.activation = {};
  EXPECT_EQ(plan_segments(two_level.weight, two_level.activation, 256, 0).segment, 128);
  EXPECT_FALSE(plan(48, "", 256).integer);
  EXPECT_FALSE(plan(96, "activation.group=64", 256).integer);
  EXPECT_FALSE(plan(0, "activation.group=40", 256).integer);
}

TEST(SegmentPlan, LayersOfOneInputAreCutAlike) {
  const auto together = [](const std::vector<QuantizerFormat>& weights, const QuantizerFormat& activation) {
    std::vector<SegmentPlan> plans;
    for (const QuantizerFormat& weight : weights) plans.push_back(plan_segments(weight, activation, 768, 0));
    return common_plan(weights, plans);
  };
  const auto grouped = [](std::int64_t group) {
    return QuantizerFormat{4, true, ScaleMode::static_scale, Granularity::group, group};
  };
  const QuantizerFormat channel{8, true, ScaleMode::static_scale, Granularity::channel, 0};
  const QuantizerFormat none;
  const QuantizerFormat tokens = named_recipe("w8a8kv8-dynamic").activation;
  const QuantizerFormat two_level = named_recipe("w4g128a8kv4-static").weight;
  EXPECT_EQ(together({channel, channel}, tokens).segment, 768);
  EXPECT_EQ(together({channel, grouped(64), channel}, tokens).segments, 12);
  EXPECT_EQ(together({grouped(96), grouped(64)}, tokens).segment, 32);
  EXPECT_EQ(together({two_level, channel}, tokens).segments, 1);
  EXPECT_EQ(together({two_level, grouped(64)}, tokens).segment, 64);
  EXPECT_EQ(together({two_level, grouped(96)}, tokens).segment, 32) << "groups of 128 are cut by whole segments";
  EXPECT_EQ(together({grouped(256), channel}, none).segment, 128);
  EXPECT_EQ(together({none, grouped(64)}, tokens).segment, 64);
  EXPECT_TRUE(together({none, grouped(64)}, tokens).integer);
  EXPECT_FALSE(together({none, none}, tokens).integer);
  EXPECT_TRUE(together({grouped(48), channel}, tokens).integer);
  EXPECT_FALSE(together({grouped(48), none}, tokens).integer);
  EXPECT_EQ(together({none, channel}, none).planes, 2);
}

}  // namespace
}  // namespace pq::runtime
