#include "numerics/hadamard.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/random.h"

namespace pq {
namespace {

// H H^T = n I in integers, for a +-1 matrix.
bool is_hadamard(const std::vector<std::int8_t>& h, std::size_t n) {
  const std::size_t words = (n + 63) / 64;
  std::vector<std::uint64_t> rows(n * words, 0);
  for (std::size_t i = 0; i < n * n; ++i) {
    if (h[i] != 1 && h[i] != -1) return false;
    if (h[i] < 0) rows[i / n * words + i % n / 64] |= std::uint64_t{1} << (i % n % 64);
  }
  for (std::size_t a = 0; a < n; ++a) {
    for (std::size_t b = 0; b < a; ++b) {
      std::size_t different = 0;
      for (std::size_t w = 0; w < words; ++w) {
        different += static_cast<std::size_t>(std::popcount(rows[a * words + w] ^ rows[b * words + w]));
      }
      if (2 * different != n) return false;
    }
  }
  return true;
}

bool is_symmetric(const std::vector<std::int8_t>& h, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      if (h[i * n + j] != h[j * n + i]) return false;
    }
  }
  return true;
}

double norm(std::span<const double> x) { return std::sqrt(std::inner_product(x.begin(), x.end(), x.begin(), 0.0)); }

std::vector<double> random_row(std::int64_t n) {
  Random random(7, "hadamard test");
  std::vector<double> row(static_cast<std::size_t>(n));
  for (auto& value : row) value = random.normal();
  return row;
}

struct Size {
  std::int64_t order;
  std::int64_t blocks;
  std::int64_t base;
};

// ALGORITHM.md section 4's list, then head and hidden sizes of the supported families, then orders without
// construction.
const Size sizes[] = {
    {11008, 1, 344}, {14336, 1, 28},  {18944, 1, 148}, {4864, 1, 76},  {9728, 1, 76}, {29568, 1, 924}, {13824, 1, 108},
    {8960, 1, 140},  {25600, 1, 100}, {17408, 1, 68},  {53248, 1, 52}, {5632, 1, 44}, {3072, 1, 12},   {1536, 1, 12},
    {576, 1, 36},    {704, 1, 44},    {28672, 1, 28},  {64, 1, 1},     {80, 1, 20},   {96, 1, 12},     {112, 1, 28},
    {128, 1, 1},     {256, 1, 1},     {896, 1, 28},    {2048, 1, 1},   {2560, 1, 20}, {3584, 1, 28},   {4096, 1, 1},
    {5120, 1, 20},   {6912, 1, 108},  {8192, 1, 1},    {1, 1, 1},      {2, 1, 1},     {12, 1, 12},     {184, 23, 1},
    {92, 23, 1},     {17, 17, 1},     {6, 3, 1},       {18, 9, 1},
};

class HadamardOfSize : public testing::TestWithParam<Size> {};

TEST_P(HadamardOfSize, HasTheExpectedPlan) {
  const auto [order, blocks, base] = GetParam();
  const HadamardPlan plan = plan_hadamard(order);
  EXPECT_EQ(plan, (HadamardPlan{order, blocks, base, order / blocks / base}));
}

TEST_P(HadamardOfSize, BaseIsExactlyHadamard) {
  const std::int64_t m = plan_hadamard(GetParam().order).base;
  EXPECT_TRUE(is_hadamard(hadamard_base(m), static_cast<std::size_t>(m)));
}

// Together with the exact base this is H H^T = n I for the whole: row i of the operator is row i of the Kronecker
// product.
TEST_P(HadamardOfSize, UnitVectorsGiveTheRowsOfTheKroneckerProduct) {
  const HadamardPlan plan = plan_hadamard(GetParam().order);
  const std::vector<std::int8_t> base_matrix = hadamard_base(plan.base);
  const auto n = static_cast<std::size_t>(plan.order);
  const auto block = static_cast<std::size_t>(plan.block_order());
  const auto m = static_cast<std::size_t>(plan.base);
  const double unit = 1.0 / std::sqrt(static_cast<double>(block));
  for (const std::size_t i : {std::size_t{0}, n / 3, n / 2, n - 1}) {
    std::vector<double> row(n, 0.0);
    std::vector<double> column(n, 0.0);
    row[i] = 1;
    column[i] = 1;
    apply_hadamard(plan, row);
    apply_hadamard_transposed(plan, column);
    for (std::size_t j = 0; j < n; ++j) {
      const bool negative = std::popcount((i % block / m) & (j % block / m)) % 2 != 0;
      const double sign = i / block != j / block ? 0.0 : negative ? -unit : unit;
      ASSERT_EQ(row[j], sign * base_matrix[i % m * m + j % m]) << i << ' ' << j;
      ASSERT_EQ(column[j], sign * base_matrix[j % m * m + i % m]) << i << ' ' << j;
    }
  }
}

TEST_P(HadamardOfSize, TransposeInvertsAndNormIsKept) {
  const HadamardPlan plan = plan_hadamard(GetParam().order);
  const std::vector<double> before = random_row(plan.order);
  std::vector<double> row = before;
  apply_hadamard(plan, row);
  // Each value is a sum of at most n' terms of rounding error 2^-53 relative to the norm.
  const double bound = 4e-16 * static_cast<double>(plan.base + 64) * norm(before);
  EXPECT_NEAR(norm(row), norm(before), bound);
  apply_hadamard_transposed(plan, row);
  for (std::size_t i = 0; i < row.size(); ++i) ASSERT_NEAR(row[i], before[i], bound);
}

TEST_P(HadamardOfSize, FloatIsTheRoundedDouble) {
  const HadamardPlan plan = plan_hadamard(GetParam().order);
  const std::vector<double> random = random_row(plan.order);
  std::vector<float> narrow(random.begin(), random.end());
  std::vector<double> wide(narrow.begin(), narrow.end());
  apply_hadamard(plan, narrow);
  apply_hadamard(plan, wide);
  for (std::size_t i = 0; i < wide.size(); ++i) ASSERT_EQ(narrow[i], static_cast<float>(wide[i]));
}

INSTANTIATE_TEST_SUITE_P(Sizes, HadamardOfSize, testing::ValuesIn(sizes),
                         [](const auto& size) { return std::to_string(size.param.order); });

TEST(Hadamard, EveryOrderWithAConstructionIsExact) {
  int constructions = 0;
  for (std::int64_t m = 1; m <= 512; ++m) {
    std::vector<std::int8_t> h;
    try {
      h = hadamard_base(m);
    } catch (const InputError&) {
      continue;
    }
    ++constructions;
    ASSERT_TRUE(is_hadamard(h, static_cast<std::size_t>(m))) << m;
  }
  EXPECT_EQ(constructions, 73);
}

TEST(Hadamard, OneFlippedSignIsCaught) {
  std::vector<std::int8_t> h = hadamard_base(344);
  ASSERT_TRUE(is_hadamard(h, 344));
  h[100 * 344 + 7] = static_cast<std::int8_t>(-h[100 * 344 + 7]);
  EXPECT_FALSE(is_hadamard(h, 344));
}

TEST(Hadamard, SymmetryIsThatOfTheConstruction) {
  for (const std::size_t paley_1 : {4U, 12U, 20U, 28U, 44U, 68U, 108U, 140U, 344U}) {
    EXPECT_FALSE(is_symmetric(hadamard_base(static_cast<std::int64_t>(paley_1)), paley_1)) << paley_1;
  }
  for (const std::size_t paley_2 : {36U, 52U, 76U, 100U, 148U, 924U}) {
    EXPECT_TRUE(is_symmetric(hadamard_base(static_cast<std::int64_t>(paley_2)), paley_2)) << paley_2;
  }
  const HadamardPlan plan = plan_hadamard(96);
  std::vector<double> forward = random_row(96);
  std::vector<double> backward = forward;
  apply_hadamard(plan, forward);
  apply_hadamard_transposed(plan, backward);
  EXPECT_NE(forward, backward);
}

TEST(Hadamard, MatrixMatchesTheOperator) {
  for (const std::int64_t n : {1, 2, 8, 12, 24, 36, 72, 80, 92}) {
    const HadamardPlan plan = plan_hadamard(n);
    const std::vector<std::int8_t> h = hadamard_matrix(n);
    const auto size = static_cast<std::size_t>(n);
    EXPECT_EQ(is_hadamard(h, size), plan.blocks == 1) << n;
    for (std::size_t i = 0; i < size; ++i) {
      std::vector<double> row(size, 0.0);
      row[i] = 1;
      apply_hadamard(plan, row);
      for (std::size_t j = 0; j < size; ++j) {
        ASSERT_EQ(row[j], h[i * size + j] / std::sqrt(static_cast<double>(plan.block_order())));
      }
    }
  }
  EXPECT_EQ(hadamard_matrix(4), (std::vector<std::int8_t>{1, 1, 1, 1, 1, -1, 1, -1, 1, 1, -1, -1, 1, -1, -1, 1}));
  const std::vector<std::int8_t> blocks{1, 1, 0, 0,  0, 0, 1, -1, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0,
                                        0, 0, 1, -1, 0, 0, 0, 0,  0, 0, 1, 1, 0, 0, 0, 0, 1, -1};
  EXPECT_EQ(hadamard_matrix(6), blocks);
}

TEST(Hadamard, AnOrderWithoutACheapConstructionIsBlockDiagonal) {
  // 4 * 29569 + 4 = 2 (q + 1) could exist far above max_hadamard_base; it is not considered.
  const std::int64_t order = 8 * 10007;
  EXPECT_EQ(plan_hadamard(order), (HadamardPlan{order, 10007, 1, 8}));
}

TEST(Hadamard, RefusesWhatDoesNotFit) {
  EXPECT_THROW(plan_hadamard(0), InputError);
  EXPECT_THROW(plan_hadamard(-8), InputError);
  EXPECT_THROW(hadamard_base(0), InputError);
  EXPECT_THROW(hadamard_base(2), InputError);
  EXPECT_THROW(hadamard_base(92), InputError);
  EXPECT_THROW(hadamard_base(max_hadamard_base + 4), InputError);
  EXPECT_THROW(hadamard_matrix(28672), InputError);
  std::vector<float> row(11);
  try {
    apply_hadamard(plan_hadamard(12), row);
    FAIL();
  } catch (const InputError& error) {
    EXPECT_STREQ(error.what(), "Hadamard matrix: a row of 11 values does not fit order 12");
  }
  std::vector<float> twelve(12);
  EXPECT_THROW(apply_hadamard(HadamardPlan{12, 1, 12, 2}, twelve), InputError);
}

}  // namespace
}  // namespace pq
