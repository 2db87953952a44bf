#include "tuning/adamw.h"

#include <gtest/gtest.h>
#include <torch/optim/adamw.h>

#include <cmath>
#include <limits>
#include <vector>

#include "base/random.h"

namespace pq::quant {
namespace {

at::Tensor random_values(at::IntArrayRef shape, const std::string& stream) {
  at::Tensor x = at::empty(shape, at::kFloat);
  Random random(1, stream);
  for (std::int64_t i = 0; i < x.numel(); ++i) x.data_ptr<float>()[i] = static_cast<float>(random.normal());
  return x;
}

at::Tensor leaf(const at::Tensor& x) { return x.detach().clone().set_requires_grad(true); }

TEST(AdamW, MakesTheStepsOfTorch) {
  const std::vector<std::vector<std::int64_t>> shapes{{7, 5}, {300}, {1}};
  std::vector<at::Tensor> ours;
  std::vector<at::Tensor> theirs;
  for (const auto& shape : shapes) {
    ours.push_back(leaf(random_values(shape, "start")));
    theirs.push_back(leaf(ours.back()));
  }
  AdamW optimizer(ours);
  torch::optim::AdamW reference(theirs, torch::optim::AdamWOptions(1.0).weight_decay(0));
  constexpr int steps = 20;
  double travelled = 0;
  for (int step = 0; step < steps; ++step) {
    const double rate = cosine_rate(0.01, step, steps);
    travelled += rate;
    for (std::size_t i = 0; i < ours.size(); ++i) {
      // Gradients of very different sizes, down to where epsilon counts.
      const double size = std::pow(10.0, -4.0 * static_cast<double>(i)) * (step % 3 == 0 ? 10 : 1);
      const at::Tensor gradient = random_values(shapes[i], "gradient " + std::to_string(step)) * size;
      ours[i].mutable_grad() = gradient.clone();
      theirs[i].mutable_grad() = gradient.clone();
    }
    for (auto& group : reference.param_groups()) group.options().set_lr(rate);
    optimizer.step(std::vector<double>(ours.size(), rate));
    reference.step();
  }
  // A step is at most a few rates long and rounded some ten times by 2^-24; so is the parameter, once a step.
  for (std::size_t i = 0; i < ours.size(); ++i) {
    const double ulp = std::ldexp(1.0, -24);
    const double bound = ulp * (steps * ours[i].abs().max().item<double>() + 10 * 4 * travelled);
    EXPECT_LE((ours[i] - theirs[i]).abs().max().item<double>(), bound) << i;
    EXPECT_GT((ours[i] - leaf(random_values(shapes[i], "start"))).abs().max().item<double>(), 1000 * bound) << i;
  }
  EXPECT_EQ(optimizer.steps(), steps);
}

TEST(AdamW, EachParameterHasItsRateAndOneWithoutGradientStays) {
  std::vector<at::Tensor> values{leaf(at::ones({2})), leaf(at::ones({2})), leaf(at::ones({2}))};
  AdamW optimizer(values);
  values[0].mutable_grad() = at::full({2}, 3.0F);
  values[1].mutable_grad() = at::full({2}, -0.5F);
  optimizer.step({0.1, 0.02, 0.5});
  // The first step is the rate, against the gradient's sign.
  EXPECT_NEAR(values[0][0].item<float>(), 0.9, 1e-6);
  EXPECT_NEAR(values[1][0].item<float>(), 1.02, 1e-6);
  EXPECT_EQ(values[2][0].item<float>(), 1);
}

TEST(AdamW, GoesOnFromItsMoments) {
  at::Tensor whole = leaf(at::ones({3}));
  at::Tensor before = leaf(at::ones({3}));
  AdamW one({whole});
  AdamW two({before});
  const auto step = [](AdamW& optimizer, at::Tensor& value, double gradient) {
    value.mutable_grad() = at::full({3}, gradient, at::kFloat);
    optimizer.step({0.01});
  };
  for (const double gradient : {1.0, -2.0, 0.3}) step(one, whole, gradient);
  step(two, before, 1.0);
  at::Tensor after = leaf(before);
  AdamW three({after});
  three.moments()[0].first.copy_(two.moments()[0].first);
  three.moments()[0].second.copy_(two.moments()[0].second);
  three.set_steps(two.steps());
  step(three, after, -2.0);
  step(three, after, 0.3);
  EXPECT_TRUE(at::equal(whole, after));
}

TEST(CosineRate, FallsFromTheRateToATenthOfIt) {
  EXPECT_DOUBLE_EQ(cosine_rate(5e-6, 0, 100), 5e-6);
  EXPECT_DOUBLE_EQ(cosine_rate(5e-6, 100, 100), 5e-7);
  EXPECT_DOUBLE_EQ(cosine_rate(5e-6, 50, 100), 2.75e-6);
  EXPECT_DOUBLE_EQ(cosine_rate(0, 3, 10), 0);
  for (std::int64_t step = 0; step < 100; ++step) EXPECT_GT(cosine_rate(1, step, 100), cosine_rate(1, step + 1, 100));
}

TEST(ClipGradients, BoundsTheNormOfAllTogether) {
  std::vector<at::Tensor> values{leaf(at::zeros({2})), leaf(at::zeros({1})), leaf(at::zeros({4}))};
  const auto set = [&] {
    values[0].mutable_grad() = at::tensor({3.0F, 0.0F});
    values[1].mutable_grad() = at::tensor({-4.0F});
  };
  set();
  EXPECT_DOUBLE_EQ(clip_gradients(values, 10), 5);
  EXPECT_EQ(values[0].grad()[0].item<float>(), 3);
  EXPECT_DOUBLE_EQ(clip_gradients(values, 0.5), 5);
  EXPECT_NEAR(values[0].grad()[0].item<float>(), 0.3, 1e-7);
  EXPECT_NEAR(values[1].grad()[0].item<float>(), -0.4, 1e-7);
  EXPECT_FALSE(values[2].grad().defined());
  values[1].mutable_grad() = at::tensor({std::numeric_limits<float>::quiet_NaN()});
  EXPECT_TRUE(std::isnan(clip_gradients(values, 0.5)));  // what is not a number is not made one
}

}  // namespace
}  // namespace pq::quant
