#include "model/key_basis.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/error.h"
#include "base/random.h"
#include "model/spec_for_test.h"

namespace pq {
namespace {

const ModelSpec small = small_spec(48, 88, 6, 2, 8);

std::vector<float> random_values(std::size_t count, std::uint64_t seed) {
  Random random(seed, "basis");
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(random.normal());
  return values;
}

/// Scores of all query heads against their KV head's key.
std::vector<double> scores(const std::vector<double>& q, const std::vector<double>& k) {
  std::vector<double> sums(6, 0.0);
  for (std::size_t head = 0; head < 6; ++head) {
    for (std::size_t i = 0; i < 8; ++i) sums[head] += q[head * 8 + i] * k[head / 3 * 8 + i];
  }
  return sums;
}

TEST(KeyBasis, LeavesTheScoresOfEveryHead) {
  const std::vector<float> basis = random_values(2 * 8 * 8, 1);
  const std::vector<float> q_floats = random_values(48, 2);
  const std::vector<float> k_floats = random_values(16, 3);
  std::vector<double> q(q_floats.begin(), q_floats.end());
  std::vector<double> k(k_floats.begin(), k_floats.end());
  const std::vector<double> expected = scores(q, k);
  apply_transform(key_basis_transform(small, basis), k, 16);
  std::vector<double> wrong = q;
  apply_transform(query_basis_transform(small, basis), q, 48);
  for (std::size_t head = 0; head < 6; ++head) EXPECT_NEAR(scores(q, k)[head], expected[head], 1e-4);
  // What must not pass: the other KV head's matrix.
  std::vector<float> swapped(basis.begin() + 64, basis.end());
  swapped.insert(swapped.end(), basis.begin(), basis.begin() + 64);
  apply_transform(query_basis_transform(small, swapped), wrong, 48);
  for (std::size_t head = 0; head < 6; ++head) EXPECT_GT(std::fabs(scores(wrong, k)[head] - expected[head]), 1e-2);
}

TEST(KeyBasis, IsNothingWhereThereIsNone) {
  EXPECT_TRUE(key_basis_transform(small, {}).empty());
  EXPECT_TRUE(query_basis_transform(small, {}).empty());
  EXPECT_TRUE(query_basis(small, {}).empty());
}

TEST(KeyBasis, RefusesAMatrixWithoutInverse) {
  std::vector<float> basis = random_values(2 * 8 * 8, 1);
  for (std::size_t i = 0; i < 8; ++i) basis[64 + i] = basis[64 + 8 + i];
  EXPECT_THROW(query_basis(small, basis), InputError);
}

}  // namespace
}  // namespace pq
