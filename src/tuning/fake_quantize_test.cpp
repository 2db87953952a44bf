#include "tuning/fake_quantize.h"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "base/error.h"
#include "numerics/quantize.h"
#include "quant/quantizer.h"
#include "tuning/fake_quantize_for_test.h"

namespace pq::quant {
namespace {

using ::testing::HasSubstr;

TEST(FakeQuantizeTunable, ValuesAreThoseOfFakeQuantize) {
  for_each_case([](const SliceLayout& layout, const QuantizerFormat& format) {
    const at::Tensor x = random_values({layout.outer, layout.slices, layout.inner}, 1);
    x.view(-1)[0] = -1e-9;  // rounds to -0
    const auto [scale, zero_point] = random_parameters(layout, format, 2);
    const ScaleTensors scales{scale.unsqueeze(-1), format.symmetric ? zero_point : zero_point.round().unsqueeze(-1)};
    const at::Tensor expected = fake_quantize(x, scales, format);
    const auto actual = [&](const at::Tensor& values, at::ScalarType type) {
      return fake_quantize_tunable(values, layout, scale, zero_point, format, type);
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

Actual tuned(const at::Tensor& x, const at::Tensor& grad_out, const SliceLayout& layout, const Parameters& parameters,
             const QuantizerFormat& format, at::ScalarType out_type) {
  const at::Tensor values = leaf(x);
  const at::Tensor scale = leaf(parameters.scale);
  const at::Tensor zero_point = format.symmetric ? at::Tensor() : leaf(parameters.zero_point);
  const at::Tensor out = fake_quantize_tunable(values, layout, scale, zero_point, format, out_type);
  out.backward(grad_out.to(out_type));
  return {out.detach(), values.grad(), scale.grad(), format.symmetric ? at::Tensor() : zero_point.grad()};
}

bool agrees(const Actual& actual, const Expected& expected) {
  const std::vector<double> exact(expected.x.size(), 0.0);
  return within(actual.x.flatten(), expected.x, exact) && within(actual.scale, expected.scale, expected.scale_bound) &&
         (!actual.zero_point.defined() || within(actual.zero_point, expected.zero_point, expected.zero_point_bound));
}

TEST(FakeQuantizeTunable, GradientsAreThoseOfSection7) {
  for_each_case([](const SliceLayout& layout, const QuantizerFormat& format) {
    const at::Tensor x = random_values({layout.outer * layout.slices, layout.inner}, 3);
    const at::Tensor grad_out = random_values(x.sizes(), 4);
    const Parameters parameters = random_parameters(layout, format, 5);
    const auto expected = [&](const at::Tensor& values, const at::Tensor& grads, Formula formula) {
      return expected_gradients(values, grads, layout, parameters, format, formula);
    };
    const Actual actual = tuned(x, grad_out, layout, parameters, format, at::kFloat);
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
        agrees(tuned(x, grad16, layout, parameters, format, at::kBFloat16), expected(x, grad16, Formula::section_7)));
    ASSERT_TRUE(agrees(tuned(x16, grad16, layout, parameters, format, at::kBFloat16),
                       expected(x16, grad16, Formula::section_7)));
    const Actual mixed = tuned(x16, grad_out, layout, parameters, format, at::kFloat);
    Expected of_mixed = expected(x16, grad_out, Formula::section_7);
    for (double& grad : of_mixed.x) grad = static_cast<float>(c10::BFloat16(static_cast<float>(grad)));
    ASSERT_TRUE(agrees(mixed, of_mixed));
  });
}

// A result that the kernels do not write is computed by tensor operations.
TEST(FakeQuantizeTunable, KernelsAndTensorOperationsAgree) {
  for_each_case([](const SliceLayout& layout, const QuantizerFormat& format) {
    const at::Tensor x = random_values({layout.outer, layout.slices * layout.inner}, 6);
    const at::Tensor grad_out = random_values(x.sizes(), 7);
    const Parameters parameters = random_parameters(layout, format, 8);
    const Actual kernels = tuned(x, grad_out, layout, parameters, format, at::kFloat);
    const Actual tensors = tuned(x, grad_out, layout, parameters, format, at::kDouble);
    ASSERT_TRUE(same_bits(kernels.out, tensors.out.to(at::kFloat)));
    ASSERT_TRUE(agrees(tensors, expected_gradients(x, grad_out, layout, parameters, format, Formula::section_7)));
    ASSERT_TRUE(at::equal(kernels.x, tensors.x));
  });
}

// Between two roundings x^ is (code - z) * s with a constant code, so that its derivative by s is LSQ's plus q inside
// the range and LSQ's itself outside. Steps of s in x and of 1 in z see the straight-through rounds as they are.
TEST(FakeQuantizeTunable, GradientsAgreeWithFiniteDifferences) {
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
    return fake_quantize_tunable(values, each, scales, zeros, format, at::kDouble);
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

TEST(FakeQuantizeTunable, ResultsDoNotDependOnTheNumberOfThreads) {
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
        const Actual all = tuned(x, grad_out, layout, parameters, format, at::kFloat);
        std::vector<at::Tensor> results{all.out, all.x, all.scale};
        if (!symmetric) results.push_back(all.zero_point);
        if (layout.outer == 1) {
          const at::Tensor gamma = leaf(at::full({1}, 0.8F));
          const at::Tensor beta = leaf(at::full({1}, 0.7F));
          const at::Tensor out = fake_quantize_dynamic_tunable(x, layout, gamma, beta, format);
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

TEST(FakeQuantizeTunable, GradientsNobodyWantsAreLeftOut) {
  const QuantizerFormat format{4, false, ScaleMode::static_scale, Granularity::tensor, 0};
  const SliceLayout layout{1, 6, 50};
  const at::Tensor x = random_values({6, 50}, 12);
  const at::Tensor grad_out = random_values({6, 50}, 13);
  const Parameters parameters = random_parameters(layout, format, 14);
  const Actual all = tuned(x, grad_out, layout, parameters, format, at::kFloat);
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    const at::Tensor scale = leaf(parameters.scale);
    fake_quantize_tunable(x, layout, scale, parameters.zero_point, format, type).backward(grad_out.to(type));
    EXPECT_TRUE(at::allclose(scale.grad(), all.scale, 1e-4));
    const at::Tensor values = leaf(x);
    fake_quantize_tunable(values, layout, parameters.scale, parameters.zero_point, format, type)
        .backward(grad_out.to(type));
    EXPECT_TRUE(at::equal(values.grad(), all.x));
    EXPECT_FALSE(
        fake_quantize_tunable(x, layout, parameters.scale, parameters.zero_point, format, type).requires_grad());
  }
  // Scales of any shape get a gradient of that shape.
  const at::Tensor shaped = leaf(parameters.scale.reshape({2, 3}));
  fake_quantize_tunable(x, layout, shaped, parameters.zero_point.reshape({3, 2}), format, at::kFloat)
      .backward(grad_out);
  EXPECT_TRUE(at::equal(shaped.grad(), all.scale.reshape({2, 3})));
}

TEST(FakeQuantizeTunable, NotFiniteAndEmptyInputs) {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const QuantizerFormat format{4, false, ScaleMode::static_scale, Granularity::tensor, 0};
  const SliceLayout layout{1, 2, 20};
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    at::Tensor x = random_values({2, 20}, 15);
    x[0][3] = nan;
    x[1][4] = infinity;
    x[1][18] = -infinity;
    const Actual actual = tuned(x, at::ones({2, 20}), layout, {at::full({2}, 0.5F), at::full({2}, 7.0F)}, format, type);
    EXPECT_TRUE(at::equal(actual.out.isnan(), x.isnan()));
    EXPECT_EQ(actual.out[1][4].item<float>(), 4);
    EXPECT_EQ(actual.out[1][18].item<float>(), -3.5F);
    EXPECT_EQ(actual.x[1][4].item<float>(), 0);
    EXPECT_TRUE(std::isnan(actual.scale[0].item<float>()));  // the damage stays visible, in its own slice
    EXPECT_TRUE(std::isfinite(actual.scale[1].item<float>()));
    EXPECT_TRUE(std::isfinite(actual.zero_point[1].item<float>()));
  }
  const Actual empty = tuned(at::empty({0, 2, 20}), at::empty({0, 2, 20}), {1, 2, 0},
                             {at::full({2}, 0.5F), at::full({2}, 7.0F)}, format, at::kFloat);
  EXPECT_EQ(empty.out.numel(), 0);
  EXPECT_TRUE(at::equal(empty.scale, at::zeros({2})));
}

TEST(FakeQuantizeTunable, RefusesWhatDoesNotBelongTogether) {
  const QuantizerFormat format{4, false, ScaleMode::static_scale, Granularity::tensor, 0};
  const at::Tensor x = at::ones({2, 8});
  const at::Tensor two = at::ones({2});
  const auto message = [&](const at::Tensor& values, const SliceLayout& layout, const at::Tensor& scale,
                           const at::Tensor& zero) -> std::string {
    try {
      fake_quantize_tunable(values, layout, scale, zero, format, at::kFloat);
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
  EXPECT_THROW(fake_quantize_dynamic_tunable(x, {2, 1, 8}, at::ones({1}), at::ones({1}), format), InputError);
  EXPECT_THROW(fake_quantize_dynamic_tunable(x, {1, 2, 8}, at::ones({2}), at::ones({1}), format), InputError);
  EXPECT_THROW(fake_quantize_dynamic_tunable(x, {1, 2, 8}, at::ones({1}), {}, format), InputError);
}

}  // namespace
}  // namespace pq::quant
