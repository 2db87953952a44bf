#include "quant/bracket.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/random.h"

namespace pq::quant {
namespace {

TEST(BracketedMinimum, FindsTheLowestPointOfAFunctionThatFallsAndRises) {
  for (std::int64_t lowest = 10; lowest <= 120; ++lowest) {
    for (const std::int64_t start : {10, 47, 100, 120}) {
      int calls = 0;
      const auto value = [&](std::int64_t x) { return std::pow(static_cast<double>(x - lowest), 2); };
      const std::int64_t found = bracketed_minimum(start, 10, 120, 8, 1, [&](std::int64_t a, std::int64_t b) {
        ++calls;
        EXPECT_TRUE(a >= 10 && a <= 120);
        return value(a) < value(b);
      });
      EXPECT_EQ(found, lowest) << start;
      EXPECT_LT(calls, 8 + std::abs(start - lowest) / 8 + 8);
    }
  }
}

TEST(BracketedMinimum, StopsAtTheLastStrideAndAtTheEdges) {
  const auto less = [](std::int64_t a, std::int64_t b) { return std::abs(a - 51) < std::abs(b - 51); };
  EXPECT_LE(std::abs(bracketed_minimum(20, 10, 120, 8, 2, less) - 51), 1);
  EXPECT_EQ(bracketed_minimum(50, 60, 90, 8, 1, less), 60);
}

/// Errors of candidate c on rows: 1 + c / 100 in the mean, with a scatter that is common to all candidates and one of
/// its own.
RowContest::Evaluate noisy(double own) {
  return [own](std::int64_t candidate, std::int64_t begin, std::int64_t count) {
    std::vector<double> errors;
    for (std::int64_t row = begin; row < begin + count; ++row) {
      Random common(static_cast<std::uint64_t>(row), "row");
      Random mine(static_cast<std::uint64_t>(row * 1000 + candidate), "candidate");
      errors.push_back(1 + static_cast<double>(candidate) / 100 + common.normal() + own * mine.normal());
    }
    return errors;
  };
}

TEST(RowContest, TakesAsManyRowsAsTheDifferenceNeeds) {
  RowContest clear(4096, noisy(0.001));
  EXPECT_TRUE(clear.less(50, 52));
  EXPECT_FALSE(clear.less(52, 50));
  EXPECT_EQ(clear.evaluated(), 2 * 256);  // what rows have in common does not count; known errors are kept
  RowContest close(4096, noisy(0.3));
  EXPECT_TRUE(close.less(50, 53));
  EXPECT_GT(close.evaluated(), 2 * 256);
  RowContest equal(1000, noisy(1));
  equal.less(50, 50);
  EXPECT_EQ(equal.evaluated(), 1000);
}

}  // namespace
}  // namespace pq::quant
