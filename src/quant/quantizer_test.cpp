#include "quant/quantizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "base/random.h"
#include "numerics/quantize.h"
#include "numerics/scale_type.h"

namespace pq::quant {
namespace {

const auto floats = at::TensorOptions().dtype(at::kFloat);

at::Tensor random_tensor(at::IntArrayRef shape, std::uint64_t seed) {
  at::Tensor x = at::empty(shape, floats);
  Random random(seed, "test");
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    x.data_ptr<float>()[i] = static_cast<float>(random.normal() * (random.below(50) == 0 ? 8 : 1) + 0.3);
  }
  return x;
}

/// The scalar definition over one slice, dynamic scales.
void scalar_dynamic(std::span<float> slice, const QuantizerFormat& format, float gamma, float beta) {
  const MinMax range = min_max(slice);
  if (format.symmetric) {
    fake_quantize(slice, symmetric_scale(max_abs(slice), gamma, format.bits), 0, quant_range(format.bits, true));
  } else {
    const AffineParams params = affine_params(range.min, range.max, beta, gamma, format.bits);
    fake_quantize(slice, params.scale, params.zero_point, quant_range(format.bits, false));
  }
}

std::int64_t differing(const at::Tensor& a, const at::Tensor& b) { return (a != b).sum().item<std::int64_t>(); }

struct DynamicCase {
  Granularity granularity;
  std::int64_t group;
  std::vector<std::int64_t> slices;  // lengths of the slices of one token's 96 channels
};

TEST(SiteFakeQuantizer, DynamicScalesEqualTheScalarDefinitionBitForBit) {
  const std::vector<DynamicCase> cases{{Granularity::token, 0, {96}},
                                       {Granularity::group, 32, {32, 32, 32}},
                                       {Granularity::group, 40, {40, 40, 16}},
                                       {Granularity::group, 128, {96}}};
  for (const auto& one : cases) {
    for (int bits = 2; bits <= 8; ++bits) {
      for (const bool symmetric : {true, false}) {
        const QuantizerFormat format{bits, symmetric, ScaleMode::dynamic_scale, one.granularity, one.group};
        at::Tensor x = random_tensor({2, 5, 96}, static_cast<std::uint64_t>(bits));
        x[0][0].zero_();
        const at::Tensor actual = SiteFakeQuantizer(Site::o_input, format, 0.9F, 0.8F)(x);
        at::Tensor expected = x.clone();
        float* at = expected.data_ptr<float>();
        for (int token = 0; token < 10; ++token) {
          for (const std::int64_t length : one.slices) {
            scalar_dynamic({at, static_cast<std::size_t>(length)}, format, 0.9F, 0.8F);
            at += length;
          }
        }
        ASSERT_EQ(differing(actual, expected), 0) << bits << symmetric << one.group;
        const at::Tensor unclipped = SiteFakeQuantizer(Site::o_input, format, 1.0F, 1.0F)(x);
        ASSERT_GT(differing(unclipped, expected), 0);  // the comparison can tell a wrong clip factor
      }
    }
  }
}

TEST(SiteFakeQuantizer, CachesShareAScaleAsTheirGranularitySays) {
  const at::Tensor x = random_tensor({1, 3, 2, 16}, 4);  // [batch, tokens, kv_heads, head_dim]
  const auto check = [&](Granularity granularity, std::int64_t group, std::size_t slice) {
    const QuantizerFormat format{4, true, ScaleMode::dynamic_scale, granularity, group};
    at::Tensor expected = x.clone();
    for (std::size_t begin = 0; begin < 96; begin += slice)
      scalar_dynamic({expected.data_ptr<float>() + begin, slice}, format, 1, 1);
    EXPECT_EQ(differing(SiteFakeQuantizer(Site::k_cache, format, 1, 1)(x), expected), 0);
  };
  check(Granularity::token, 0, 32);
  check(Granularity::group, 128, 16);
  check(Granularity::group, 8, 8);

  const QuantizerFormat fixed{4, false, ScaleMode::static_scale, Granularity::head, 0};
  const SiteFakeQuantizer quantizer(Site::v_cache, fixed, SiteQuantizer{{0.1F, 0.3F}, {3, 9}, {1, 1}}, floats);
  at::Tensor expected = x.clone();
  for (std::size_t i = 0; i < 6; ++i) {
    fake_quantize({expected.data_ptr<float>() + 16 * i, 16}, i % 2 == 0 ? 0.1F : 0.3F, i % 2 == 0 ? 3 : 9,
                  quant_range(4, false));
  }
  EXPECT_EQ(differing(quantizer(x), expected), 0);
}

TEST(SiteFakeQuantizer, StaticScalesEqualTheScalarDefinition) {
  const at::Tensor x = random_tensor({2, 7, 33}, 9);
  for (const bool symmetric : {true, false}) {
    const QuantizerFormat format{8, symmetric, ScaleMode::static_scale, Granularity::tensor, 0};
    SiteQuantizer parameters{{0.037F}, {}, {1, 1}};
    if (!symmetric) parameters.zero_point = {101};
    at::Tensor expected = x.clone();
    fake_quantize({expected.data_ptr<float>(), static_cast<std::size_t>(x.numel())}, 0.037F, symmetric ? 0 : 101,
                  quant_range(8, symmetric));
    EXPECT_EQ(differing(SiteFakeQuantizer(Site::qkv_input, format, parameters, floats)(x), expected), 0);
  }
}

TEST(Weights, CodesSurvivePackingAndEqualTheScalarDefinition) {
  for (const std::int64_t group : {0, 16, 20}) {
    for (const bool symmetric : {true, false}) {
      for (int bits = 2; bits <= 8; ++bits) {
        const QuantizerFormat format{bits, symmetric, ScaleMode::static_scale,
                                     group == 0 ? Granularity::channel : Granularity::group, group};
        const at::Tensor weight = random_tensor({6, 50}, static_cast<std::uint64_t>(100 + bits));
        const std::int64_t groups = format.groups(50);
        const at::Tensor clip = at::full({6, groups}, 0.85F);
        const WeightCodes codes = quantize_weight(weight, clip, format);
        const at::Tensor direct = dequantize_weight(codes, format);
        const nn::Linear restored = unpack_linear(pack_linear(codes, {}, format), {6, 50, false}, format, floats);
        ASSERT_EQ(differing(restored.weight, direct), 0);
        at::Tensor expected = weight.clone();
        for (std::int64_t row = 0; row < 6; ++row) {
          for (std::int64_t begin = 0; begin < 50; begin += group == 0 ? 50 : group) {
            const std::int64_t length = std::min<std::int64_t>(group == 0 ? 50 : group, 50 - begin);
            scalar_dynamic({expected.data_ptr<float>() + row * 50 + begin, static_cast<std::size_t>(length)}, format,
                           0.85F, 0.85F);
          }
        }
        ASSERT_EQ(differing(direct, expected), 0) << bits << symmetric << group;
      }
    }
  }
}

TEST(Weights, ShortScalesEqualTheScalarDefinitionBitForBit) {
  at::Tensor weight = random_tensor({40, 96}, 77);
  for (std::int64_t row = 0; row < 40; ++row) weight[row] *= std::exp(static_cast<double>(row) - 25);
  weight[3].zero_();
  weight[4].abs_();
  weight[5] = -weight[5].abs();
  for (const ScaleType type : {ScaleType::f16, ScaleType::bf16}) {
    for (const bool symmetric : {true, false}) {
      for (const int bits : {2, 3, 4, 8}) {
        QuantizerFormat format{bits, symmetric, ScaleMode::static_scale, Granularity::group, 32};
        const ScaleTensors full = weight_scales(weight, at::full({40, 3}, 0.85F), format);
        format.scale_type = type;
        const ScaleTensors scales = weight_scales(weight, at::full({40, 3}, 0.85F), format);
        for (std::int64_t row = 0; row < 40; ++row) {
          for (std::int64_t group = 0; group < 3; ++group) {
            const at::Tensor slice = weight[row].narrow(0, 32 * group, 32).contiguous();
            const std::span<const float> values(slice.data_ptr<float>(), 32);
            const float scale = scales.scale[row][group].item<float>();
            if (symmetric) {
              ASSERT_EQ(scale, symmetric_scale(max_abs(values), 0.85F, bits, type));
              continue;
            }
            const MinMax range = min_max(values);
            const AffineParams expected = affine_params(range.min, range.max, 0.85F, 0.85F, bits, type);
            ASSERT_EQ(scale, expected.scale) << row << " " << bits;
            ASSERT_EQ(scales.zero_point[row][group].item<float>(), static_cast<float>(expected.zero_point));
          }
        }
        const ScaleTensors again = snapped(scales, format);
        EXPECT_EQ(differing(again.scale, scales.scale), 0);
        EXPECT_NO_THROW(pack_linear({quantize_with_scales(weight, scales, format), scales}, {}, format));
        EXPECT_THROW(pack_linear({quantize_with_scales(weight, full, format), full}, {}, format), std::logic_error);
      }
    }
  }
}

TEST(Weights, UnquantizedFormatsKeepBinary16AndBias) {
  const at::Tensor weight = random_tensor({3, 5}, 1);
  const at::Tensor bias = random_tensor({3}, 2);
  const nn::Linear linear = unpack_linear(half_linear(weight, bias), {3, 5, true}, {}, floats);
  EXPECT_EQ(differing(linear.weight, weight.to(at::kHalf).to(at::kFloat)), 0);
  EXPECT_EQ(differing(linear.bias, bias), 0);
}

}  // namespace
}  // namespace pq::quant
