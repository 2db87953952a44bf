#include "numerics/order_statistics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "base/error.h"

namespace pq {
namespace {

using testing::ElementsAre;

TEST(OrderStatistics, AreTheEndsAndTheMiddleWhateverTheOrder) {
  const std::vector<float> odd{5, -1, 9, 2, 7};
  OrderStatistics found = order_statistics(odd);
  EXPECT_THAT(found.top, ElementsAre(9, 7, 5));
  EXPECT_THAT(found.least, ElementsAre(-1, 2, 5));
  EXPECT_EQ(found.median, 5);
  const std::vector<float> even{4, 4, 1, 8};
  found = order_statistics(even);
  EXPECT_THAT(found.top, ElementsAre(8, 4, 4));
  EXPECT_THAT(found.least, ElementsAre(1, 4, 4));
  EXPECT_EQ(found.median, 4);
  EXPECT_EQ(order_statistics(std::vector<float>{1, 2, 4, 8}).median, 3);
}

TEST(OrderStatistics, NeedThreeValues) { EXPECT_THROW(order_statistics(std::vector<float>{1, 2}), InputError); }

}  // namespace
}  // namespace pq
