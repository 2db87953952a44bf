#include "numerics/site_transform.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include "base/error.h"
#include "base/random.h"
#include "numerics/hadamard.h"
#include "numerics/transform_for_test.h"

namespace pq {
namespace {

using ::testing::HasSubstr;

constexpr std::int64_t size = 24;
constexpr std::size_t n = 24;
using Dense = std::vector<double>;  // [n, n]

/// One of every kind, the Hadamard ones with a Paley base, a power of two and repeated.
std::vector<TransformStep> all_steps() {
  Random random(3, "steps");
  return {random_gather(random, size),
          random_multiply(random, size),
          HadamardStep{24},
          HadamardStep{12},
          HadamardStep{8},
          BlockDiagonalStep{6, 4, random_matrices(random, 4, 6)},
          BlockDiagonalStep{3, 1, random_matrices(random, 1, 3)},
          KroneckerStep{4, 6, random_matrices(random, 1, 4), random_matrices(random, 1, 6)},
          KroneckerStep{24, 1, random_matrices(random, 1, 24), {2.0F}}};
}

/// The matrices written out, S with row x -> x S, entry by entry from the comments of the header.
Dense dense_step(const TransformStep& step) {
  Dense s(n * n, 0.0);
  if (const auto* gather = std::get_if<GatherStep>(&step)) {
    for (std::size_t j = 0; j < n; ++j) s[static_cast<std::size_t>(gather->source[j]) * n + j] = 1;
  } else if (const auto* multiply = std::get_if<MultiplyStep>(&step)) {
    for (std::size_t i = 0; i < n; ++i) s[i * n + i] = static_cast<double>(multiply->factors[i]);
  } else if (const auto* hadamard = std::get_if<HadamardStep>(&step)) {
    const auto order = static_cast<std::size_t>(hadamard->order);
    const std::vector<std::int8_t> h = hadamard_matrix(hadamard->order);
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = i / order * order; j < i / order * order + order; ++j)
        s[i * n + j] = h[i % order * order + j % order] / std::sqrt(static_cast<double>(order));
    }
  } else if (const auto* diagonal = std::get_if<BlockDiagonalStep>(&step)) {
    const auto block = static_cast<std::size_t>(diagonal->block);
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t matrix = diagonal->count == 1 ? 0 : i / block;
      for (std::size_t j = i / block * block; j < i / block * block + block; ++j)
        s[i * n + j] = static_cast<double>(diagonal->matrices[(matrix * block + i % block) * block + j % block]);
    }
  } else {
    const auto& kronecker = std::get<KroneckerStep>(step);
    const auto left = static_cast<std::size_t>(kronecker.left);
    const auto right = static_cast<std::size_t>(kronecker.right);
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j < n; ++j)
        s[i * n + j] = static_cast<double>(kronecker.left_matrix[i / right * left + j / right]) *
                       static_cast<double>(kronecker.right_matrix[i % right * right + j % right]);
    }
  }
  return s;
}

std::vector<double> times(const std::vector<double>& x, const Dense& s) {
  std::vector<double> y(n, 0.0);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) y[j] += x[i] * s[i * n + j];
  }
  return y;
}

std::vector<double> random_row(std::uint64_t seed) {
  Random random(seed, "row");
  std::vector<double> x(n);
  for (double& value : x) value = random.normal();
  return x;
}

double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::fabs(a[i] - b[i]));
  return largest;
}

double product(const std::vector<double>& a, const std::vector<double>& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

SiteTransform long_transform() {
  SiteTransform all{all_steps()};
  check_transform(all, size);
  return all;
}

TEST(SiteTransform, EveryStepIsItsMatrixAndASequenceTheirProduct) {
  std::vector<double> expected = random_row(1);
  for (const TransformStep& step : all_steps()) {
    check_transform({{step}}, size);
    std::vector<double> x = random_row(2);
    const std::vector<double> wanted = times(x, dense_step(step));
    apply_transform({{step}}, x, size);
    EXPECT_LT(distance(x, wanted), 1e-12) << step_name(step);
    std::vector<double> transposed = random_row(2);
    Dense s = dense_step(step);
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j < i; ++j) std::swap(s[i * n + j], s[j * n + i]);
    }
    const bool symmetric = std::holds_alternative<MultiplyStep>(step) || step == TransformStep(HadamardStep{8});
    EXPECT_EQ(distance(x, times(transposed, s)) < 1e-12, symmetric) << step_name(step);
    expected = times(expected, dense_step(step));
  }
  std::vector<double> x = random_row(1);
  apply_transform(long_transform(), x, size);
  EXPECT_LT(distance(x, expected), 1e-10);
}

TEST(SiteTransform, FloatRowsAreRoundedOnceAndAllRowsAreTransformed) {
  const SiteTransform transform = long_transform();
  std::vector<float> rows;
  for (const std::uint64_t seed : {5, 6}) {
    for (const double value : random_row(seed)) rows.push_back(static_cast<float>(value));
  }
  std::vector<double> wide(rows.begin(), rows.end());
  apply_transform(transform, rows, size);
  apply_transform(transform, wide, size);
  for (std::size_t i = 0; i < rows.size(); ++i) EXPECT_EQ(rows[i], static_cast<float>(wide[i]));
}

// (x T) w'^T = x w^T; with T in the place of its inverse, transposed, it is not.
TEST(SiteTransform, TransformedWeightsUndoIt) {
  std::vector<SiteTransform> transforms{long_transform()};
  for (const TransformStep& step : all_steps()) transforms.push_back({{step}});
  for (const SiteTransform& transform : transforms) {
    std::vector<double> x = random_row(3);
    std::vector<double> weights = random_row(4);
    const std::vector<double> second = random_row(7);
    weights.insert(weights.end(), second.begin(), second.end());
    const double before = product(x, random_row(4));
    const double before_second = product(x, second);
    transform_weights(transform, weights, size);
    apply_transform(transform, x, size);
    const std::vector<double> first_row(weights.begin(), weights.begin() + size);
    const std::vector<double> second_row(weights.begin() + size, weights.end());
    EXPECT_NEAR(product(x, first_row), before, 1e-9);
    EXPECT_NEAR(product(x, second_row), before_second, 1e-9);

    std::vector<double> broken = random_row(4);
    apply_transform(transform, broken, size);
    const bool orthogonal = std::all_of(transform.steps.begin(), transform.steps.end(), [](const TransformStep& step) {
      return std::holds_alternative<GatherStep>(step) || std::holds_alternative<HadamardStep>(step);
    });
    EXPECT_EQ(std::fabs(product(x, broken) - before) < 1e-9, orthogonal);
  }
}

// What Q is multiplied with where K is multiplied with T, in float32.
TEST(SiteTransform, ProductsStayUnderTheInverseTransposed) {
  for (const TransformStep& step : all_steps()) {
    const SiteTransform transform{{step}};
    std::vector<double> query = random_row(3);
    std::vector<double> key = random_row(4);
    const double before = product(query, key);
    apply_transform(inverse_transposed(transform), query, size);
    apply_transform(transform, key, size);
    EXPECT_NEAR(product(query, key), before, 1e-5) << step_name(step);
  }
  const SiteTransform orthogonal{{HadamardStep{12}, all_steps()[0]}};
  EXPECT_EQ(inverse_transposed(orthogonal), orthogonal);
}

TEST(SiteTransform, ShapesAloneCanBeCompared) {
  const SiteTransform transform = long_transform();
  const SiteTransform plain = without_values(transform);
  check_transform_sizes(plain, size);
  EXPECT_NE(plain, transform);
  EXPECT_EQ(without_values(plain), plain);
  SiteTransform other = transform;
  std::get<MultiplyStep>(other.steps[1]).factors[0] += 1;
  EXPECT_EQ(without_values(other), plain);
  std::get<HadamardStep>(other.steps[2]).order = 6;
  EXPECT_NE(without_values(other), plain);
}

std::string refusal(const TransformStep& step) {
  try {
    check_transform({{step}}, size);
  } catch (const InputError& error) {
    return error.what();
  }
  return {};
}

TEST(SiteTransform, WhatDoesNotFitIsRefusedByName) {
  EXPECT_THAT(refusal(HadamardStep{16}), HasSubstr("step 0 (hadamard): order 16 does not divide 24"));
  EXPECT_THAT(refusal(HadamardStep{0}), HasSubstr("order 0"));
  EXPECT_THAT(refusal(HadamardStep{-8}), HasSubstr("order -8"));
  EXPECT_THAT(refusal(HadamardStep{std::numeric_limits<std::int64_t>::max()}), HasSubstr("does not divide"));
  EXPECT_THAT(refusal(BlockDiagonalStep{5, 1, {}}), HasSubstr("block_diagonal): blocks of 5 do not divide 24"));
  EXPECT_THAT(refusal(BlockDiagonalStep{6, 3, {}}), HasSubstr("3 matrices are neither 1 nor one for each of 4"));
  EXPECT_THAT(refusal(BlockDiagonalStep{6, 1, std::vector<float>(35)}), HasSubstr("35 values instead of 36"));
  EXPECT_THAT(refusal(KroneckerStep{5, 5, {}, {}}), HasSubstr("kronecker): 5 times 5 is not 24"));
  EXPECT_THAT(refusal(KroneckerStep{-4, -6, {}, {}}), HasSubstr("-4 times -6"));
  EXPECT_THAT(refusal(KroneckerStep{4, 6, std::vector<float>(16), std::vector<float>(35)}), HasSubstr("35 right"));
  EXPECT_THAT(refusal(MultiplyStep{std::vector<float>(23, 1.0F)}), HasSubstr("multiply): 23 factors instead of 24"));
  std::vector<float> factors(n, 1.0F);
  factors[3] = 0;
  EXPECT_THAT(refusal(MultiplyStep{factors}), HasSubstr("factor 3 is 0"));
  factors[3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(refusal(MultiplyStep{factors}), HasSubstr("element 3 of the factors is not finite"));
  Random random(1, "gather");
  GatherStep gather = random_gather(random, size);
  gather.source[5] = gather.source[6];
  EXPECT_THAT(refusal(gather), HasSubstr("gather): place 6 takes from"));
  gather.source[5] = 24;
  EXPECT_THAT(refusal(gather), HasSubstr("place 5 takes from 24"));
  gather.source[5] = -1;
  EXPECT_THAT(refusal(gather), HasSubstr("place 5 takes from -1"));
  gather.source.pop_back();
  EXPECT_THAT(refusal(gather), HasSubstr("23 places instead of 24"));
  EXPECT_THROW(check_transform({std::vector<TransformStep>(17, HadamardStep{8})}, size), InputError);

  std::vector<double> row(n + 1);
  EXPECT_THROW(apply_transform({{HadamardStep{8}}}, row, size), InputError);
  EXPECT_THROW(apply_transform({{random_multiply(random, size)}}, row, size + 1), InputError);
}

TEST(SiteTransform, AMatrixWithoutInverseCannotBeUndone) {
  const BlockDiagonalStep singular{2, 1, {1, 2, 2, 4}};
  check_transform({{singular}}, size);
  EXPECT_THROW(inverse_transposed({{singular}}), InputError);
  std::vector<double> weights = random_row(1);
  EXPECT_THROW(transform_weights({{singular}}, weights, size), InputError);
}

}  // namespace
}  // namespace pq
