#include "numerics/outlier_tokens.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace pq {
namespace {

TEST(OutlierTokens, AreFarFromTheMedianOfTheirSequence) {
  const std::array<float, 6> maxima{1, 200, 1, 0.1F, 3, 130};
  EXPECT_EQ(median(maxima), 2);
  EXPECT_EQ(median(std::span(maxima).first(5)), 1);
  std::vector<std::size_t> upper;
  const SequenceOutliers found = find_outlier_tokens(maxima, 64, 8, [&](std::size_t token) { upper.push_back(token); });
  EXPECT_EQ(upper, (std::vector<std::size_t>{1, 5}));
  EXPECT_EQ(found.upper, 2);
  EXPECT_EQ(found.lower, 1);
  EXPECT_EQ(found.max_ratio, 100);
  EXPECT_FLOAT_EQ(static_cast<float>(found.max_inverse_ratio), 20);
  EXPECT_EQ(find_outlier_tokens(maxima, 65, 8).upper, 1);  // the threshold itself is not beyond it
  EXPECT_EQ(find_outlier_tokens(std::vector<float>(4, 0), 64, 8).upper, 0);
}

}  // namespace
}  // namespace pq
