#include "tuning/fake_quantize.h"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>

#include <array>
#include <cmath>
#include <functional>
#include <limits>

#include "base/error.h"
#include "base/random.h"
#include "numerics/quantize.h"
#include "quant/quantizer.h"

namespace pq::quant {
namespace {

using ::testing::HasSubstr;

// Slices shorter and longer than a chunk, rows in and across chunks, lengths that fill no vector.
const std::vector<SliceLayout> layouts{{1, 1, 1},     {1, 1, 33001}, {1, 37, 19},   {7, 3, 5},    {150, 4, 64},
                                       {1, 300, 128}, {3, 200, 100}, {2, 2, 20001}, {1, 45, 704}, {2, 3, 1}};

at::Tensor random_values(at::IntArrayRef shape, std::uint64_t seed) {
  at::Tensor x = at::empty(shape, at::kFloat);
  Random random(seed, "fake quantizers");
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    x.data_ptr<float>()[i] = static_cast<float>(random.normal() * (random.below(20) == 0 ? 4 : 1) + 0.2);
  }
  return x;
}

/// Scales that clamp some values of every slice, and zero points that are not whole.
struct Parameters {
  at::Tensor scale;
  at::Tensor zero_point;
};
Parameters random_parameters(const SliceLayout& layout, const QuantizerFormat& format, std::uint64_t seed) {
  Parameters result{at::empty({layout.slices}, at::kFloat), {}};
  if (!format.symmetric) result.zero_point = at::empty({layout.slices}, at::kFloat);
  Random random(seed, "parameters");
  const double levels = std::ldexp(1.0, format.bits) - 1;
  for (std::int64_t i = 0; i < layout.slices; ++i) {
    result.scale.data_ptr<float>()[i] = static_cast<float>((2 + random.uniform()) / levels);
    if (!format.symmetric) {
      result.zero_point.data_ptr<float>()[i] = static_cast<float>(levels * (0.3 + 0.3 * random.uniform()));
    }
  }
  return result;
}

void for_each_case(const std::function<void(const SliceLayout&, const QuantizerFormat&)>& body) {
  for (const SliceLayout& layout : layouts) {
    for (const int bits : {2, 3, 4, 8}) {
      for (const bool symmetric : {true, false}) {
        SCOPED_TRACE(testing::Message() << layout.outer << " x " << layout.slices << " x " << layout.inner << ", "
                                        << bits << (symmetric ? " bits, symmetric" : " bits, asymmetric"));
        body(layout, QuantizerFormat{bits, symmetric, ScaleMode::static_scale, Granularity::tensor, 0});
      }
    }
  }
}

/// The same bits, signs of zeros included; NaN equals NaN.
bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  const at::ScalarType bits = a.scalar_type() == at::kFloat ? at::kInt : at::kShort;
  return a.scalar_type() == b.scalar_type() && a.sizes() == b.sizes() &&
         at::equal(a.contiguous().view(bits), b.contiguous().view(bits));
}

at::Tensor leaf(const at::Tensor& x) { return x.detach().clone().set_requires_grad(true); }

TEST(FakeQuantizeTrained, ValuesAreThoseOfFakeQuantize) {
  for_each_case([](const SliceLayout& layout, const QuantizerFormat& format) {
    const at::Tensor x = random_values({layout.outer, layout.slices, layout.inner}, 1);
    x.view(-1)[0] = -1e-9;  // rounds to -0
    const auto [scale, zero_point] = random_parameters(layout, format, 2);
    const ScaleTensors scales{scale.unsqueeze(-1), format.symmetric ? zero_point : zero_point.round().unsqueeze(-1)};
    const at::Tensor expected = fake_quantize(x, scales, format);
    const auto actual = [&](const at::Tensor& values, at::ScalarType type) {
      return fake_quantize_trained(values, layout, scale, zero_point, format, type);
    };
    ASSERT_TRUE(same_bits(actual(x, at::kFloat), expected));
    ASSERT_TRUE(same_bits(actual(x.flatten(), at::kFloat), expected.flatten()));
    const at::Tensor strided = x.permute({2, 0, 1}).contiguous().permute({1, 2, 0});
    ASSERT_TRUE(same_bits(actual(strided, at::kFloat), expected));
    ASSERT_TRUE(same_bits(actual(x, at::kBFloat16), expected.to(at::kBFloat16)));

    const at::Tensor rounded = x.to(at::kBFloat16);
    const at::Tensor of_rounded = fake_quantize(rounded.to(at::kFloat), scales, format);
    ASSERT_TRUE(same_bits(actual(rounded, at::kFloat), of_rounded));
    ASSERT_TRUE(same_bits(actual(rounded, at::kBFloat16), of_rounded.to(at::kBFloat16)));
  });
}

enum class Formula { section_7, clamped_pass_through, sign_of_round_flipped, zero_point_ignored };

struct Expected {
  std::vector<double> x;
  std::vector<double> scale;
  std::vector<double> zero_point;
  std::vector<double> scale_bound;  // on the rounding errors of the sums
  std::vector<double> zero_point_bound;
};

/// ALGORITHM.md section 7, value by value.
Expected expected_gradients(const at::Tensor& x, const at::Tensor& grad_out, const SliceLayout& layout,
                            const Parameters& parameters, const QuantizerFormat& format, Formula formula) {
  const auto slices = static_cast<std::size_t>(layout.slices);
  const QuantRange range = quant_range(format.bits, format.symmetric);
  Expected sums{{},
                std::vector<double>(slices),
                std::vector<double>(slices),
                std::vector<double>(slices),
                std::vector<double>(slices)};
  const at::Tensor values = x.to(at::kFloat).contiguous();
  const at::Tensor grads = grad_out.to(at::kFloat).contiguous();
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    const auto slice = static_cast<std::size_t>(i / layout.inner % layout.slices);
    const float scale = parameters.scale.data_ptr<float>()[slice];
    const double zero = format.symmetric ? 0 : std::nearbyint(parameters.zero_point.data_ptr<float>()[slice]);
    const double grad = grads.data_ptr<float>()[i];
    const double steps = values.data_ptr<float>()[i] / scale;
    const double code = std::nearbyint(steps) + zero;
    const bool outside = code < range.low || code > range.high;
    double slope = std::nearbyint(steps) - steps;
    if (formula == Formula::sign_of_round_flipped) slope = -slope;
    if (outside) slope = (code < range.low ? range.low : range.high) - zero;
    sums.x.push_back(outside && formula != Formula::clamped_pass_through ? 0 : grad);
    sums.scale[slice] += grad * slope;
    sums.scale_bound[slice] += std::fabs(grad * slope);
    if (outside) {
      if (formula != Formula::zero_point_ignored) sums.zero_point[slice] -= grad * scale;
      sums.zero_point_bound[slice] += std::fabs(grad * scale);
    }
  }
  // A float32 lane adds at most 1024 values; the product, the difference and the result round too.
  const double roundings = static_cast<double>(std::min<std::int64_t>(layout.outer * layout.inner, 1024)) + 4;
  for (std::size_t slice = 0; slice < slices; ++slice) {
    sums.scale_bound[slice] *= roundings * std::ldexp(1.0, -24);
    sums.zero_point_bound[slice] *= roundings * std::ldexp(1.0, -24);
  }
  return sums;
}

bool within(const at::Tensor& actual, const std::vector<double>& expected, const std::vector<double>& bound) {
  const at::Tensor values = actual.to(at::kDouble).contiguous();
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (!(std::fabs(values.data_ptr<double>()[i] - expected[i]) <= bound[i])) return false;
  }
  return values.numel() == static_cast<std::int64_t>(expected.size());
}

struct Actual {
  at::Tensor out;
  at::Tensor x;
  at::Tensor scale;
  at::Tensor zero_point;
};

Actual trained(const at::Tensor& x, const at::Tensor& grad_out, const SliceLayout& layout, const Parameters& parameters,
               const QuantizerFormat& format, at::ScalarType out_type) {
  const at::Tensor values = leaf(x);
  const at::Tensor scale = leaf(parameters.scale);
  const at::Tensor zero_point = format.symmetric ? at::Tensor() : leaf(parameters.zero_point);
  const at::Tensor out = fake_quantize_trained(values, layout, scale, zero_point, format, out_type);
  out.backward(grad_out.to(out_type));
  return {out.detach(), values.grad(), scale.grad(), format.symmetric ? at::Tensor() : zero_point.grad()};
}

bool agrees(const Actual& actual, const Expected& expected) {
  const std::vector<double> exact(expected.x.size(), 0.0);
  return within(actual.x.flatten(), expected.x, exact) && within(actual.scale, expected.scale, expected.scale_bound) &&
         (!actual.zero_point.defined() || within(actual.zero_point, expected.zero_point, expected.zero_point_bound));
}

TEST(FakeQuantizeTrained, GradientsAreThoseOfSection7) {
  for_each_case([](const SliceLayout& layout, const QuantizerFormat& format) {
    const at::Tensor x = random_values({layout.outer * layout.slices, layout.inner}, 3);
    const at::Tensor grad_out = random_values(x.sizes(), 4);
    const Parameters parameters = random_parameters(layout, format, 5);
    const auto expected = [&](const at::Tensor& values, const at::Tensor& grads, Formula formula) {
      return expected_gradients(values, grads, layout, parameters, format, formula);
    };
    const Actual actual = trained(x, grad_out, layout, parameters, format, at::kFloat);
    ASSERT_TRUE(agrees(actual, expected(x, grad_out, Formula::section_7)));
    if (x.numel() > 100) {
      ASSERT_FALSE(agrees(actual, expected(x, grad_out, Formula::clamped_pass_through)));
      ASSERT_FALSE(agrees(actual, expected(x, grad_out, Formula::sign_of_round_flipped)));
      ASSERT_EQ(agrees(actual, expected(x, grad_out, Formula::zero_point_ignored)), format.symmetric);
    }
    // bfloat16 streams: the same formulas on the rounded numbers.
    const at::Tensor x16 = x.to(at::kBFloat16);
    const at::Tensor grad16 = grad_out.to(at::kBFloat16);
    ASSERT_TRUE(
        agrees(trained(x, grad16, layout, parameters, format, at::kBFloat16), expected(x, grad16, Formula::section_7)));
    ASSERT_TRUE(agrees(trained(x16, grad16, layout, parameters, format, at::kBFloat16),
                       expected(x16, grad16, Formula::section_7)));
    const Actual mixed = trained(x16, grad_out, layout, parameters, format, at::kFloat);
    Expected of_mixed = expected(x16, grad_out, Formula::section_7);
    for (double& grad : of_mixed.x) grad = static_cast<float>(c10::BFloat16(static_cast<float>(grad)));
    ASSERT_TRUE(agrees(mixed, of_mixed));
  });
}

// A result that the kernels do not write is computed by tensor operations.
TEST(FakeQuantizeTrained, KernelsAndTensorOperationsAgree) {
  for_each_case([](const SliceLayout& layout, const QuantizerFormat& format) {
    const at::Tensor x = random_values({layout.outer, layout.slices * layout.inner}, 6);
    const at::Tensor grad_out = random_values(x.sizes(), 7);
    const Parameters parameters = random_parameters(layout, format, 8);
    const Actual kernels = trained(x, grad_out, layout, parameters, format, at::kFloat);
    const Actual tensors = trained(x, grad_out, layout, parameters, format, at::kDouble);
    ASSERT_TRUE(same_bits(kernels.out, tensors.out.to(at::kFloat)));
    ASSERT_TRUE(agrees(tensors, expected_gradients(x, grad_out, layout, parameters, format, Formula::section_7)));
    ASSERT_TRUE(at::equal(kernels.x, tensors.x));
  });
}

// Between two roundings x^ is (code - z) * s with a constant code, so that its derivative by s is LSQ's plus q inside
// the range and LSQ's itself outside. Steps of s in x and of 1 in z see the straight-through rounds as they are.
TEST(FakeQuantizeTrained, GradientsAgreeWithFiniteDifferences) {
  const QuantizerFormat format{3, false, ScaleMode::static_scale, Granularity::tensor, 0};
  const double s = 0.37;
  const double z = 3;
  const at::Tensor steps =
      at::tensor({-40.2, -9.3, -4.8, -1.7, -0.9, -0.2, 0.0, 0.3, 1.25, 1.9, 2.2, 6.1, 17.6}, at::kDouble);
  const std::int64_t count = steps.numel();
  const SliceLayout each{1, count, 1};
  const at::Tensor x = steps * s;
  const at::Tensor scale = at::full({count}, s, at::kDouble);
  const at::Tensor zero = at::full({count}, z, at::kDouble);
  const auto value = [&](const at::Tensor& values, const at::Tensor& scales, const at::Tensor& zeros) {
    return fake_quantize_trained(values, each, scales, zeros, format, at::kDouble);
  };
  const at::Tensor x_leaf = leaf(x);
  const at::Tensor scale_leaf = leaf(scale);
  const at::Tensor zero_leaf = leaf(zero);
  value(x_leaf, scale_leaf, zero_leaf).backward(at::ones({count}, at::kDouble));

  const double h = 1e-4;
  const at::Tensor by_scale = (value(x, scale + h, zero) - value(x, scale - h, zero)) / (2 * h);
  const at::Tensor by_zero = (value(x, scale, zero + 1) - value(x, scale, zero - 1)) / 2;
  const at::Tensor by_x = (value(x + s, scale, zero) - value(x - s, scale, zero)) / (2 * s);
  const at::Tensor codes = steps.round() + z;
  const at::Tensor inside = (codes >= 0).logical_and(codes <= 7);
  EXPECT_EQ(inside.sum().item<std::int64_t>(), 8);
  const auto distance = [](const at::Tensor& a, const at::Tensor& b) { return (a - b).abs().max().item<double>(); };
  const at::Tensor straight = at::where(inside, steps, at::zeros_like(steps));
  // Linear between the roundings: only the difference quotient's own rounding, 40 * 2^-52 / 1e-4, is left.
  EXPECT_LT(distance(scale_leaf.grad() + straight, by_scale), 1e-9);
  EXPECT_GT(distance(-scale_leaf.grad() + straight, by_scale), 0.1);
  EXPECT_LT(distance(zero_leaf.grad(), by_zero), 1e-12);
  EXPECT_LT(distance(x_leaf.grad(), by_x), 1e-12);
  EXPECT_GT(distance(at::ones_like(x), by_x), 0.5);  // what passing clamped gradients through would give
}

TEST(FakeQuantizeTrained, ResultsDoNotDependOnTheNumberOfThreads) {
  const int threads = at::get_num_threads();
  for (const bool symmetric : {true, false}) {
    const QuantizerFormat format{4, symmetric, ScaleMode::static_scale, Granularity::tensor, 0};
    for (const SliceLayout& layout :
         {SliceLayout{1, 1, 300001}, SliceLayout{1000, 4, 64}, SliceLayout{1, 3000, 128}, SliceLayout{1, 45, 704}}) {
      const at::Tensor x = random_values({layout.outer, layout.slices, layout.inner}, 9);
      const at::Tensor grad_out = random_values(x.sizes(), 10);
      const Parameters parameters = random_parameters(layout, format, 11);
      std::vector<at::Tensor> first;
      for (const int count : {1, 2, 3}) {
        at::set_num_threads(count);
        const Actual all = trained(x, grad_out, layout, parameters, format, at::kFloat);
        std::vector<at::Tensor> results{all.out, all.x, all.scale};
        if (!symmetric) results.push_back(all.zero_point);
        if (layout.outer == 1) {
          const at::Tensor gamma = leaf(at::full({1}, 0.8F));
          const at::Tensor beta = leaf(at::full({1}, 0.7F));
          const at::Tensor out = fake_quantize_dynamic_trained(x, layout, gamma, beta, format);
          out.backward(grad_out);
          results.insert(results.end(), {out.detach(), gamma.grad()});
          if (!symmetric) results.push_back(beta.grad());
        }
        if (count == 1) first = results;
        for (std::size_t i = 0; i < first.size(); ++i)
          EXPECT_TRUE(same_bits(results[i], first[i])) << count << ' ' << i;
      }
    }
  }
  at::set_num_threads(threads);
}

TEST(FakeQuantizeTrained, GradientsNobodyWantsAreLeftOut) {
  const QuantizerFormat format{4, false, ScaleMode::static_scale, Granularity::tensor, 0};
  const SliceLayout layout{1, 6, 50};
  const at::Tensor x = random_values({6, 50}, 12);
  const at::Tensor grad_out = random_values({6, 50}, 13);
  const Parameters parameters = random_parameters(layout, format, 14);
  const Actual all = trained(x, grad_out, layout, parameters, format, at::kFloat);
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    const at::Tensor scale = leaf(parameters.scale);
    fake_quantize_trained(x, layout, scale, parameters.zero_point, format, type).backward(grad_out.to(type));
    EXPECT_TRUE(at::allclose(scale.grad(), all.scale, 1e-4));
    const at::Tensor values = leaf(x);
    fake_quantize_trained(values, layout, parameters.scale, parameters.zero_point, format, type)
        .backward(grad_out.to(type));
    EXPECT_TRUE(at::equal(values.grad(), all.x));
    EXPECT_FALSE(
        fake_quantize_trained(x, layout, parameters.scale, parameters.zero_point, format, type).requires_grad());
  }
  // Scales of any shape get a gradient of that shape.
  const at::Tensor shaped = leaf(parameters.scale.reshape({2, 3}));
  fake_quantize_trained(x, layout, shaped, parameters.zero_point.reshape({3, 2}), format, at::kFloat)
      .backward(grad_out);
  EXPECT_TRUE(at::equal(shaped.grad(), all.scale.reshape({2, 3})));
}

TEST(FakeQuantizeTrained, NotFiniteAndEmptyInputs) {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const QuantizerFormat format{4, false, ScaleMode::static_scale, Granularity::tensor, 0};
  const SliceLayout layout{1, 2, 20};
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    at::Tensor x = random_values({2, 20}, 15);
    x[0][3] = nan;
    x[1][4] = infinity;
    x[1][18] = -infinity;
    const Actual actual =
        trained(x, at::ones({2, 20}), layout, {at::full({2}, 0.5F), at::full({2}, 7.0F)}, format, type);
    EXPECT_TRUE(at::equal(actual.out.isnan(), x.isnan()));
    EXPECT_EQ(actual.out[1][4].item<float>(), 4);
    EXPECT_EQ(actual.out[1][18].item<float>(), -3.5F);
    EXPECT_EQ(actual.x[1][4].item<float>(), 0);
    EXPECT_TRUE(std::isnan(actual.scale[0].item<float>()));  // the damage stays visible, in its own slice
    EXPECT_TRUE(std::isfinite(actual.scale[1].item<float>()));
    EXPECT_TRUE(std::isfinite(actual.zero_point[1].item<float>()));
  }
  const Actual empty = trained(at::empty({0, 2, 20}), at::empty({0, 2, 20}), {1, 2, 0},
                               {at::full({2}, 0.5F), at::full({2}, 7.0F)}, format, at::kFloat);
  EXPECT_EQ(empty.out.numel(), 0);
  EXPECT_TRUE(at::equal(empty.scale, at::zeros({2})));
}

TEST(FakeQuantizeTrained, RefusesWhatDoesNotBelongTogether) {
  const QuantizerFormat format{4, false, ScaleMode::static_scale, Granularity::tensor, 0};
  const at::Tensor x = at::ones({2, 8});
  const at::Tensor two = at::ones({2});
  const auto message = [&](const at::Tensor& values, const SliceLayout& layout, const at::Tensor& scale,
                           const at::Tensor& zero) -> std::string {
    try {
      fake_quantize_trained(values, layout, scale, zero, format, at::kFloat);
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(message(x, {1, 2, 8}, two, two), "");
  EXPECT_THAT(message(x, {1, 2, 9}, two, two), HasSubstr("16 values do not form 1 x 2 slices of 9"));
  EXPECT_THAT(message(x, {1, 2, 8}, at::ones({3}), two), HasSubstr("the scale is not a tensor of 2 float32 values"));
  EXPECT_THAT(message(x, {1, 2, 8}, two, {}), HasSubstr("the zero point is not a tensor of 2 float32 values"));
  EXPECT_THAT(message(x.to(at::kDouble), {1, 2, 8}, two, two), HasSubstr("2 float64 values"));
  EXPECT_THAT(message(x.to(at::kInt), {1, 2, 8}, two, two), HasSubstr("not a floating-point tensor"));
  EXPECT_THROW(fake_quantize_dynamic_trained(x, {2, 1, 8}, at::ones({1}), at::ones({1}), format), InputError);
  EXPECT_THROW(fake_quantize_dynamic_trained(x, {1, 2, 8}, at::ones({2}), at::ones({1}), format), InputError);
  EXPECT_THROW(fake_quantize_dynamic_trained(x, {1, 2, 8}, at::ones({1}), {}, format), InputError);
}

TEST(FakeQuantizeDynamicTrained, ValuesAreThoseOfSiteFakeQuantizer) {
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
        const at::Tensor actual = fake_quantize_dynamic_trained(x, one.layout, gamma, beta, format);
        EXPECT_TRUE(same_bits(actual, site(x))) << bits << symmetric << one.layout.inner;
        EXPECT_FALSE(same_bits(actual, SiteFakeQuantizer(Site::o_input, format, 0.8F, 0.8F)(x)));
        const at::Tensor x16 = x.to(at::kBFloat16);
        EXPECT_TRUE(same_bits(fake_quantize_dynamic_trained(x16, one.layout, gamma, beta, format),
                              site(x16.to(at::kFloat)).to(at::kBFloat16)));
      }
    }
  }
}

/// Gradients of the clip factors and of x, in any type.
std::array<at::Tensor, 4> trained_dynamic(const at::Tensor& x, const at::Tensor& grad_out, const SliceLayout& layout,
                                          const QuantizerFormat& format, double gamma, double beta) {
  const auto type = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const at::Tensor values = leaf(x);
  const at::Tensor upper = leaf(at::full({1}, gamma, type));
  const at::Tensor lower = leaf(at::full({1}, beta, type));
  const at::Tensor out = fake_quantize_dynamic_trained(values, layout, upper, lower, format);
  out.backward(grad_out.to(x.scalar_type()));
  return {out.detach(), values.grad(), upper.grad(), lower.grad()};
}

// The slopes of s and of the unrounded z by gamma and beta from difference quotients, the rest from section 7.
TEST(FakeQuantizeDynamicTrained, ClipFactorsFollowTheChainRule) {
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
      const auto [out, grad_x, grad_gamma, grad_beta] = trained_dynamic(x, grad_out, layout, format, gamma, beta);
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
TEST(FakeQuantizeDynamicTrained, KernelsAndTensorOperationsAgree) {
  for (const SliceLayout& layout : {SliceLayout{1, 60, 704}, SliceLayout{1, 2, 20001}, SliceLayout{1, 33, 7}}) {
    for (const bool symmetric : {true, false}) {
      const QuantizerFormat format{4, symmetric, ScaleMode::dynamic_scale, Granularity::token, 0};
      const at::Tensor x = random_values({layout.slices, layout.inner}, 22).to(at::kHalf);
      // Gradients with the sign of x, so that the sums are large.
      const at::Tensor grad_out = random_values(x.sizes(), 23).abs().to(at::kHalf) * x.sign();
      const auto kernels = trained_dynamic(x.to(at::kFloat), grad_out, layout, format, 0.7, 0.8);
      const auto tensors = trained_dynamic(x, grad_out, layout, format, 0.7, 0.8);
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

TEST(FakeQuantizeDynamicTrained, NotANumberStaysInItsSlice) {
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    for (const bool symmetric : {true, false}) {
      const QuantizerFormat format{4, symmetric, ScaleMode::dynamic_scale, Granularity::token, 0};
      at::Tensor x = random_values({3, 21}, 24).to(type);
      x[0].zero_();
      x[1][20] = std::numeric_limits<double>::quiet_NaN();
      const auto [out, grad_x, gamma, beta] = trained_dynamic(x, at::ones({3, 21}), {1, 3, 21}, format, 1, 1);
      EXPECT_TRUE(at::equal(out[0], at::zeros({21}, type)));
      EXPECT_TRUE(out[1].isnan().all().item<bool>());
      EXPECT_FALSE(out[2].isnan().any().item<bool>());
      EXPECT_TRUE(std::isnan(gamma.item<double>()));
      const auto finite = trained_dynamic(at::zeros({3, 21}, type), at::ones({3, 21}), {1, 3, 21}, format, 1, 1);
      EXPECT_EQ(finite[2].item<double>(), 0);
      if (symmetric) continue;
      EXPECT_EQ(finite[3].item<double>(), 0);
    }
  }
}

}  // namespace
}  // namespace pq::quant
