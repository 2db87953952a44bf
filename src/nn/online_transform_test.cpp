#include "nn/online_transform.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/error.h"
#include "numerics/transform_for_test.h"

namespace pq::nn {
namespace {

constexpr std::int64_t size = 24;
const auto f64 = at::TensorOptions().dtype(at::kDouble);

double distance(const at::Tensor& a, const at::Tensor& b) { return (a - b).abs().max().item<double>(); }

std::span<double> values_of(const at::Tensor& x) { return {x.data_ptr<double>(), static_cast<std::size_t>(x.numel())}; }

class OnlineTransformTest : public testing::Test {
 protected:
  void SetUp() override { at::manual_seed(5); }
  std::vector<SiteTransform> transforms() const {
    std::vector<SiteTransform> all{every_step(size)};
    for (const TransformStep& step : every_step(size).steps) all.push_back({{step}});
    return all;
  }
};

TEST_F(OnlineTransformTest, EqualsTheScalarDefinition) {
  for (const SiteTransform& transform : transforms()) {
    const OnlineTransform online(transform, size, f64);
    const at::Tensor x = at::randn({3, 2, size}, f64);
    const at::Tensor expected = x.clone();
    apply_transform(transform, values_of(expected), size);
    EXPECT_LT(distance(online.apply(x), expected), 1e-11) << step_name(transform.steps[0]);
    EXPECT_LT(distance(online.apply(x.transpose(0, 1)), expected.transpose(0, 1)), 1e-11);
    const at::Tensor weights = at::randn({5, size}, f64);
    const at::Tensor expected_weights = weights.clone();
    transform_weights(transform, values_of(expected_weights), size);
    EXPECT_LT(distance(online.transform_weights(weights), expected_weights), 1e-10) << step_name(transform.steps[0]);
    EXPECT_LT(distance(at::linear(online.apply(x), online.transform_weights(weights)), at::linear(x, weights)), 1e-10);
    EXPECT_EQ(online.apply(x.to(at::kFloat)).scalar_type(), at::kFloat);
  }
}

TEST_F(OnlineTransformTest, ComparisonSeesTheInverse) {
  for (const TransformStep& step : every_step(size).steps) {
    const OnlineTransform online({{step}}, size, f64);
    const at::Tensor x = at::randn({4, size}, f64);
    const bool orthogonal = std::holds_alternative<GatherStep>(step) || std::holds_alternative<HadamardStep>(step);
    EXPECT_EQ(distance(online.apply(x), online.transform_weights(x)) < 1e-9, orthogonal) << step_name(step);
  }
}

// A single Hadamard step is the operator itself, to the bit.
TEST_F(OnlineTransformTest, HadamardAloneIsTheOperator) {
  const auto floats = at::TensorOptions().dtype(at::kFloat);
  const at::Tensor x = at::randn({2, 3, 4, 12}, floats);
  const OnlineTransform online({{HadamardStep{12}}}, 12, floats);
  EXPECT_TRUE(online.apply(x).equal(Hadamard(12, floats).apply(x)));
}

TEST_F(OnlineTransformTest, GradientsPass) {
  const OnlineTransform online(every_step(size), size, f64);
  const at::Tensor x = at::randn({2, size}, f64).requires_grad_(true);
  const at::Tensor direction = at::randn({2, size}, f64);
  (online.apply(x) * direction).sum().backward();
  const at::Tensor moved = at::randn({2, size}, f64);
  EXPECT_NEAR((online.apply(moved) * direction).sum().item<double>(), (moved * x.grad()).sum().item<double>(), 1e-9);
}

TEST_F(OnlineTransformTest, NothingIsDoneWithoutSteps) {
  const at::Tensor x = at::randn({2, 7}, f64);
  EXPECT_TRUE(OnlineTransform().empty());
  EXPECT_TRUE(OnlineTransform().apply(x).is_same(x));
}

TEST_F(OnlineTransformTest, WhatDoesNotFitIsRefused) {
  EXPECT_THROW(OnlineTransform(every_step(size), 25, f64), InputError);
  EXPECT_THROW(OnlineTransform(every_step(size), size, f64).apply(at::zeros({2, 25}, f64)), InputError);
  const OnlineTransform singular({{BlockDiagonalStep{2, 1, {1, 1, 1, 1}}}}, 4, f64);
  EXPECT_THROW(singular.transform_weights(at::zeros({2, 4}, f64)), InputError);
}

}  // namespace
}  // namespace pq::nn
