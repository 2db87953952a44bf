#include "measure/linear_speed.h"

#include <gtest/gtest.h>

#include "kernels/select.h"

namespace pq::measure {
namespace {

TEST(LinearSpeed, EveryPrecisionRunsAtEveryNumberOfRows) {
  for (const std::string& precision : linear_precisions()) {
    BenchLinear linear({96, 40}, precision, kernels::select_kernels());
    for (const std::int64_t rows : linear_rows()) {
      EXPECT_GT(linear.run(rows), 0) << precision;
      const Work work = linear.work_of(rows);
      EXPECT_EQ(work.products, precision == "bf16" ? Products::floats : Products::bytes);
      EXPECT_EQ(work.operations, 2.0 * 96 * 40 * static_cast<double>(rows * linear.layers(rows)));
      EXPECT_GT(work.bytes, 0);
    }
  }
}

}  // namespace
}  // namespace pq::measure
