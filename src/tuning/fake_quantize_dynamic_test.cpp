#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <array>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "numerics/quantize.h"
#include "quant/quantizer.h"
#include "tuning/fake_quantize_for_test.h"

namespace pq::quant {
namespace {

TEST(FakeQuantizeDynamicTunable, ValuesAreThoseOfSiteFakeQuantizer) {
  struct DynamicCase {
    Granularity granularity;
    std::int64_t group;
    std::vector<std::int64_t> shape;
    SliceLayout layout;
  };
  const std::vector<DynamicCase> cases{{Granularity::token, 0, {2, 50, 704}, {1, 100, 704}},
                                       {Granularity::token, 0, {3, 97}, {1, 3, 97}},
                                       {Granularity::group, 32, {2, 300, 96}, {1, 1800, 32}},
                                       {Granularity::tensor, 0, {5, 7001}, {1, 1, 35005}},
                                       {Granularity::token, 0, {2, 20003}, {1, 2, 20003}}};
  for (const DynamicCase& one : cases) {
    for (const int bits : {2, 3, 4, 8}) {
      for (const bool symmetric : {true, false}) {
        const QuantizerFormat format{bits, symmetric, ScaleMode::dynamic_scale, one.granularity, one.group};
        const at::Tensor x = random_values(one.shape, static_cast<std::uint64_t>(bits));
        if (one.layout.slices > 1) {
          const at::Tensor slices = x.view({one.layout.slices, one.layout.inner});
          slices[0].zero_();
          if (one.layout.slices > 2) slices[1].fill_(-3.7);
        }
        const SiteFakeQuantizer site(Site::o_input, format, 0.9F, 0.8F);
        const at::Tensor gamma = at::full({1}, 0.9F);
        const at::Tensor beta = at::full({1}, 0.8F);
        const at::Tensor actual = fake_quantize_dynamic_tunable(x, one.layout, gamma, beta, format);
        EXPECT_TRUE(same_bits(actual, site(x))) << bits << symmetric << one.layout.inner;
        EXPECT_FALSE(same_bits(actual, SiteFakeQuantizer(Site::o_input, format, 0.8F, 0.8F)(x)));
        const at::Tensor x16 = x.to(at::kBFloat16);
        EXPECT_TRUE(same_bits(fake_quantize_dynamic_tunable(x16, one.layout, gamma, beta, format),
                              site(x16.to(at::kFloat)).to(at::kBFloat16)));
      }
    }
  }
}

/// Gradients of the clip factors and of x, in any type.
std::array<at::Tensor, 4> tuned_dynamic(const at::Tensor& x, const at::Tensor& grad_out, const SliceLayout& layout,
                                        const QuantizerFormat& format, double gamma, double beta) {
  const auto type = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const at::Tensor values = leaf(x);
  const at::Tensor upper = leaf(at::full({1}, gamma, type));
  const at::Tensor lower = leaf(at::full({1}, beta, type));
  const at::Tensor out = fake_quantize_dynamic_tunable(values, layout, upper, lower, format);
  out.backward(grad_out.to(x.scalar_type()));
  return {out.detach(), values.grad(), upper.grad(), lower.grad()};
}

// The slopes of s and of the unrounded z by gamma and beta from difference quotients, the rest from section 7.
TEST(FakeQuantizeDynamicTunable, ClipFactorsFollowTheChainRule) {
  const SliceLayout layout{1, 9, 40};
  at::Tensor x = random_values({9, 40}, 20).to(at::kDouble);
  x[2].zero_();
  x[3].fill_(5.0);                  // one value: the bound on z decides the scale
  x[4] = x[4].abs() * 0.01 + 50.0;  // gamma < beta pushes the upper end below the lower one: the same
  x[5] = -x[5].abs();
  const at::Tensor grad_out = random_values({9, 40}, 21).to(at::kDouble);
  const double gamma = 0.62;
  const double beta = 0.71;
  const at::Tensor min = x.amin(-1);
  const at::Tensor max = x.amax(-1);
  for (const bool symmetric : {true, false}) {
    for (const int bits : {2, 4, 8}) {
      const QuantizerFormat format{bits, symmetric, ScaleMode::dynamic_scale, Granularity::token, 0};
      const auto at_clips = [&](double upper, double lower) {
        const ScaleTensors scales =
            slice_scales(min, max, at::full({1}, upper, at::kDouble), at::full({1}, lower, at::kDouble), format);
        // A slice of zeros has the scale 1 whatever the factors are; z counts before it is rounded.
        return std::pair(scales.scale, (min * -lower) / scales.scale);
      };
      const auto [scale, unrounded] = at_clips(gamma, beta);
      const at::Tensor zero = symmetric ? at::zeros_like(scale) : unrounded.round();
      const QuantRange range = quant_range(bits, symmetric);
      const at::Tensor steps = x / scale.unsqueeze(-1);
      const at::Tensor codes = steps.round() + zero.unsqueeze(-1);
      const at::Tensor clamped = codes.clamp(range.low, range.high);
      const at::Tensor outside = codes != clamped;
      const at::Tensor by_scale =
          (grad_out * at::where(outside, clamped - zero.unsqueeze(-1), steps.round() - steps)).sum(-1);
      const at::Tensor by_zero = (grad_out * at::where(outside, -scale.unsqueeze(-1), at::zeros_like(x))).sum(-1);
      const auto expected = [&](bool for_gamma, bool with_zero) {
        const double h = 1e-6;
        const auto [scale_up, zero_up] = for_gamma ? at_clips(gamma + h, beta) : at_clips(gamma, beta + h);
        const auto [scale_down, zero_down] = for_gamma ? at_clips(gamma - h, beta) : at_clips(gamma, beta - h);
        at::Tensor sum = by_scale * (scale_up - scale_down) / (2 * h);
        if (with_zero && !symmetric) sum = sum + by_zero * (zero_up - zero_down) / (2 * h);
        return sum.sum().item<double>();
      };
      const auto [out, grad_x, grad_gamma, grad_beta] = tuned_dynamic(x, grad_out, layout, format, gamma, beta);
      EXPECT_NEAR(grad_gamma.item<double>(), expected(true, true), 1e-6 * (1 + std::fabs(expected(true, true))));
      EXPECT_TRUE(at::equal(grad_x, at::where(outside, at::zeros_like(x), grad_out)));
      if (symmetric) {
        EXPECT_FALSE(grad_beta.defined());
        continue;
      }
      EXPECT_NEAR(grad_beta.item<double>(), expected(false, true), 1e-6 * (1 + std::fabs(expected(false, true))));
      EXPECT_GT(std::fabs(grad_beta.item<double>() - expected(false, false)), 1e-2);
      EXPECT_GT(std::fabs(grad_gamma.item<double>() - expected(true, false)), 1e-2);
    }
  }
}

// binary16 is computed by tensor operations in float32, on values that the kernels can get too.
TEST(FakeQuantizeDynamicTunable, KernelsAndTensorOperationsAgree) {
  for (const SliceLayout& layout : {SliceLayout{1, 60, 704}, SliceLayout{1, 2, 20001}, SliceLayout{1, 33, 7}}) {
    for (const bool symmetric : {true, false}) {
      const QuantizerFormat format{4, symmetric, ScaleMode::dynamic_scale, Granularity::token, 0};
      const at::Tensor x = random_values({layout.slices, layout.inner}, 22).to(at::kHalf);
      // Gradients with the sign of x, so that the sums are large.
      const at::Tensor grad_out = random_values(x.sizes(), 23).abs().to(at::kHalf) * x.sign();
      const auto kernels = tuned_dynamic(x.to(at::kFloat), grad_out, layout, format, 0.7, 0.8);
      const auto tensors = tuned_dynamic(x, grad_out, layout, format, 0.7, 0.8);
      EXPECT_TRUE(same_bits(kernels[0].to(at::kHalf), tensors[0]));
      EXPECT_TRUE(at::equal(kernels[1], tensors[1].to(at::kFloat)));
      // A float32 lane adds a sixteenth of a chunk's values; no term is larger than |grad_out| * max|x|.
      const double roundings = static_cast<double>(std::min<std::int64_t>(layout.inner, 16384)) / 16 + 5;
      const double bound = std::ldexp(roundings, -23) *
                           (grad_out.to(at::kDouble).abs().sum() * x.to(at::kDouble).abs().max()).item<double>();
      EXPECT_NEAR(kernels[2].item<double>(), tensors[2].item<double>(), bound);
      EXPECT_GT(std::fabs(tensors[2].item<double>()), 2 * bound);
      if (symmetric) continue;
      EXPECT_NEAR(kernels[3].item<double>(), tensors[3].item<double>(), bound);
    }
  }
}

TEST(FakeQuantizeDynamicTunable, NotANumberStaysInItsSlice) {
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    for (const bool symmetric : {true, false}) {
      const QuantizerFormat format{4, symmetric, ScaleMode::dynamic_scale, Granularity::token, 0};
      at::Tensor x = random_values({3, 21}, 24).to(type);
      x[0].zero_();
      x[1][20] = std::numeric_limits<double>::quiet_NaN();
      const auto [out, grad_x, gamma, beta] = tuned_dynamic(x, at::ones({3, 21}), {1, 3, 21}, format, 1, 1);
      EXPECT_TRUE(at::equal(out[0], at::zeros({21}, type)));
      EXPECT_TRUE(out[1].isnan().all().item<bool>());
      EXPECT_FALSE(out[2].isnan().any().item<bool>());
      EXPECT_TRUE(std::isnan(gamma.item<double>()));
      const auto finite = tuned_dynamic(at::zeros({3, 21}, type), at::ones({3, 21}), {1, 3, 21}, format, 1, 1);
      EXPECT_EQ(finite[2].item<double>(), 0);
      if (symmetric) continue;
      EXPECT_EQ(finite[3].item<double>(), 0);
    }
  }
}

}  // namespace
}  // namespace pq::quant
