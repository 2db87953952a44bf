#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/test_tables.h"
#include "numerics/hadamard.h"

namespace pq::kernels {
namespace {

constexpr double unit = 0x1p-24;

struct Rotation {
  explicit Rotation(const HadamardPlan& plan) {
    if (plan.base > 1) {
      for (const std::int8_t entry : hadamard_base(plan.base)) base_matrix.push_back(static_cast<float>(entry));
    }
    kernel = {plan.order,
              plan.blocks,
              plan.base,
              plan.power,
              base_matrix.empty() ? nullptr : base_matrix.data(),
              static_cast<float>(1 / std::sqrt(static_cast<double>(plan.block_order())))};
  }
  Rotation(const Rotation&) = delete;
  Rotation& operator=(const Rotation&) = delete;
  std::vector<float> base_matrix;
  Hadamard kernel{};
};

/// What float32 may lose in one value of the block that `at` lies in: an addition a level, a product and an addition
/// for every row of the base, the scale and its product, each at most `unit` of the sum of magnitudes.
double bound(const HadamardPlan& plan, const std::vector<float>& x, std::int64_t at) {
  const std::int64_t begin = at / plan.block_order() * plan.block_order();
  double magnitude = 0;
  for (std::int64_t i = begin; i < begin + plan.block_order(); ++i) {
    magnitude += std::fabs(static_cast<double>(x[static_cast<std::size_t>(i)]));
  }
  const double steps =
      std::log2(static_cast<double>(plan.power)) + (plan.base > 1 ? static_cast<double>(plan.base) : 0) + 3;
  return steps * unit * magnitude / std::sqrt(static_cast<double>(plan.block_order())) * 1.01;
}

/// Largest error as a share of what is allowed.
double worst(const HadamardPlan& plan, const std::vector<float>& x, const std::vector<float>& result,
             bool transposed = false) {
  std::vector<double> wanted(x.begin(), x.end());
  transposed ? apply_hadamard_transposed(plan, wanted) : apply_hadamard(plan, wanted);
  double worst = 0;
  double allowed = 0;
  for (std::int64_t i = 0; i < plan.order; ++i) {
    if (i % plan.block_order() == 0) allowed = bound(plan, x, i);
    const auto at = static_cast<std::size_t>(i);
    worst = std::max(worst, std::fabs(static_cast<double>(result[at]) - wanted[at]) / allowed);
  }
  return worst;
}

std::vector<float> rotate(const KernelTable& table, const HadamardPlan& plan, const std::vector<float>& x) {
  const Rotation rotation(plan);
  Guarded<float> row(x, plan.order % 3);
  Guarded<float> scratch(plan.order);
  table.hadamard(row.data(), rotation.kernel, scratch.data());
  EXPECT_TRUE(row.untouched_around() && scratch.untouched_around()) << plan.order;
  return row.values();
}

using HadamardKernel = TableTest;

TEST_P(HadamardKernel, rotates_rows_of_every_order) {
  std::vector<std::int64_t> orders{11008, 14336, 18944, 4864, 9728,  29568, 13824, 8960, 25600, 17408, 53248, 5632,
                                   3072,  1536,  576,   704,  28672, 8192,  16384, 96,   192,   172,   46,    94,
                                   368,   12,    20,    28,   36,    40,    44,    60,   80,    112};
  for (std::int64_t power = 1; power <= 4096; power *= 2) orders.push_back(power);
  for (std::int64_t n = 1; n <= 70; ++n) orders.push_back(n);
  for (const std::int64_t n : orders) {
    const HadamardPlan plan = plan_hadamard(n);
    const std::vector<float> x = activations_like(n, static_cast<unsigned>(n));
    const std::vector<float> result = rotate(table(), plan, x);
    ASSERT_LE(worst(plan, x, result), 1.0) << n << " = " << plan.blocks << " x " << plan.base << " x " << plan.power;
  }
}

TEST_P(HadamardKernel, rotates_many_heads_at_once) {
  for (const std::int64_t head_dim : {16, 32, 64, 80, 96, 128, 256}) {
    HadamardPlan plan = plan_hadamard(head_dim);
    plan.blocks *= 9;
    plan.order *= 9;
    const std::vector<float> x = activations_like(plan.order, 4);
    ASSERT_LE(worst(plan, x, rotate(table(), plan, x)), 1.0) << head_dim;
  }
}

TEST_P(HadamardKernel, would_be_caught_in_the_wrong_direction) {
  const HadamardPlan plan = plan_hadamard(3072);  // Paley I: not symmetric
  const std::vector<float> x = activations_like(plan.order, 8);
  const std::vector<float> result = rotate(table(), plan, x);
  EXPECT_LE(worst(plan, x, result), 1.0);
  EXPECT_GT(worst(plan, x, result, true), 100.0);
}

PQ_FOR_EVERY_TABLE(HadamardKernel);

}  // namespace
}  // namespace pq::kernels
