#include "measure/limits.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/stopwatch.h"
#include "kernels/select.h"

namespace pq::measure {
namespace {

using kernels::MachineLimits;

TEST(Limits, TheTighterBoundBinds) {
  const MachineLimits limits{
      .int8_ops = 2000, .int8_matrix_ops = 0, .f32_ops = 500, .bf16_ops = 900, .bf16_matrix_ops = 0, .read_bytes = 50};
  const auto expect = [&](Work work, const MachineLimits& of, std::string_view limit, double seconds) {
    const Bound bound = bound_of(work, of);
    EXPECT_EQ(bound.limit, limit);
    EXPECT_DOUBLE_EQ(bound.seconds, seconds);
  };
  expect({Products::bytes, 4000, false, 50}, limits, "int8 peak", 2);
  expect({Products::bytes, 4000, false, 150}, limits, "read bandwidth", 3);
  expect({Products::wide, 4000, false, 0}, limits, "int8 peak", 4);
  expect({Products::floats, 900, false, 0}, limits, "bf16 peak", 1);
  MachineLimits other = limits;
  other.bf16_matrix_ops = 4500;
  expect({Products::floats, 900, false, 0}, other, "bf16 matrix peak", 0.2);
  expect({Products::floats, 900, true, 0}, other, "bf16 peak", 1);
  expect({Products::wide, 4500, false, 0}, other, "bf16 matrix peak", 1);
  other.bf16_matrix_ops = 0;
  other.int8_matrix_ops = 8000;
  other.bf16_ops = 0;
  expect({Products::bytes, 4000, false, 0}, other, "int8 matrix peak", 0.5);
  expect({Products::bytes, 4000, true, 0}, other, "int8 peak", 2);
  expect({Products::wide, 4000, false, 0}, other, "int8 matrix peak", 1);
  expect({Products::floats, 500, false, 0}, other, "f32 peak", 1);
}

TEST(Limits, EveryKernelTableHasThem) {
  for (const kernels::KernelTable* table : kernels::kernel_tables()) {
    if (!kernels::supported(*table)) continue;
    const kernels::LimitProbe probe(*table, std::size_t{8} << 20);
    const MachineLimits limits = probe.measure(2);
    EXPECT_GT(limits.int8_ops, 1e8) << table->name;
    EXPECT_GT(limits.f32_ops, 1e8) << table->name;
    EXPECT_GT(limits.read_bytes, 1e8) << table->name;
    EXPECT_EQ(limits.int8_matrix_ops > 0, table->int8_matrix_peak != nullptr) << table->name;
    EXPECT_GT(limits_text(limits).size(), 20U);
    EXPECT_TRUE(limits_json(limits)["int8_ops_per_second"].is_number());
    EXPECT_EQ(limits_json(limits)["bf16_ops_per_second"].is_null(), table->bf16_peak == nullptr) << table->name;
  }
}

// A loop that the compiler folded would take the same time for any number of rounds.
TEST(Limits, PeaksDoTheirRounds) {
  const auto seconds = [](double (*peak)(std::int64_t) noexcept, std::int64_t rounds) {
    double best = 1e9;
    for (int i = 0; i < 5; ++i) {
      const Stopwatch stopwatch;
      EXPECT_EQ(peak(rounds), peak(1) * static_cast<double>(rounds));
      best = std::min(best, stopwatch.seconds());
    }
    return best;
  };
  for (const kernels::KernelTable* table : kernels::kernel_tables()) {
    if (!kernels::supported(*table)) continue;
    for (auto* peak :
         {table->int8_peak, table->int8_matrix_peak, table->f32_peak, table->bf16_peak, table->bf16_matrix_peak}) {
      if (peak == nullptr) continue;
      EXPECT_GT(seconds(peak, 80'000), 4 * seconds(peak, 8'000)) << table->name;
    }
  }
}

}  // namespace
}  // namespace pq::measure
