#include "quant/key_basis.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <tuple>
#include <vector>

#include "nn/hadamard.h"
#include "quant/key_positions.h"

namespace pq::quant {
namespace {

constexpr std::int64_t dim = 16;

/// Rows whose channels have very different energies and are mixed with each other.
at::Tensor rows(std::int64_t heads, std::uint64_t seed) {
  at::manual_seed(seed);
  const at::Tensor energies = at::logspace(0, -2, dim, 10, at::kDouble);
  const at::Tensor mixed = std::get<0>(at::linalg_qr(at::randn({heads, dim, dim}, at::kDouble)));
  const at::Tensor x = at::randn({heads, 900, dim}, at::kDouble) * energies;
  return at::bmm(x, mixed).transpose(0, 1).reshape({3, 300, heads, dim}).to(at::kFloat);
}

at::Tensor moment(const at::Tensor& x) {
  const at::Tensor wide = x.reshape({-1, dim}).to(at::kDouble);
  return at::mm(wide.t(), wide) / static_cast<double>(wide.size(0));
}

/// tr C_K tr C_Q: what errors of K that are alike in all channels leave in the scores, but for a factor.
double product_of_traces(const at::Tensor& k, const at::Tensor& q) {
  return moment(k).trace().item<double>() * moment(q).trace().item<double>();
}

TEST(BalancedBasis, GivesKAndQTheSameCovarianceAlikeInAllChannels) {
  const at::Tensor k = rows(2, 1);
  const at::Tensor q = rows(6, 2);
  const at::Tensor bases = balanced_basis(k, q);
  ASSERT_EQ(bases.sizes(), at::IntArrayRef({2, dim, dim}));
  for (std::int64_t head = 0; head < 2; ++head) {
    const at::Tensor basis = bases[head].to(at::kDouble);
    const at::Tensor keys = at::matmul(k.select(2, head).to(at::kDouble), basis);
    const at::Tensor queries =
        at::matmul(q.narrow(2, head * 3, 3).to(at::kDouble), at::linalg_inv(basis).transpose(0, 1));
    const at::Tensor of_keys = moment(keys);
    const at::Tensor of_queries = moment(queries);
    const double mean = of_keys.diagonal().mean().item<double>();
    EXPECT_LT((of_keys - of_queries).abs().max().item<double>(), 0.05 * mean);
    EXPECT_LT((of_keys.diagonal() - mean).abs().max().item<double>(), 0.05 * mean);
    // Not so before, nor behind a rotation alone.
    const at::Tensor plain = moment(k.select(2, head));
    EXPECT_GT((plain.diagonal() - plain.diagonal().mean()).abs().max().item<double>(), 0.2 * mean);
    const double rotated = product_of_traces(k.select(2, head), q.narrow(2, head * 3, 3));
    EXPECT_LT(product_of_traces(keys, queries), 0.7 * rotated);
    // No other matrix leaves less: (tr (C_K C_Q)^(1/2))^2, by the singular values of factors of both.
    const at::Tensor factor = at::mm(at::linalg_cholesky(moment(k.select(2, head))).t(),
                                     at::linalg_cholesky(moment(q.narrow(2, head * 3, 3))));
    const double least = at::linalg_svdvals(factor).sum().pow(2).item<double>();
    EXPECT_GT(product_of_traces(keys, queries), 0.999 * least);
    EXPECT_LT(product_of_traces(keys, queries), 1.02 * least);
  }
}

TEST(BalancedBasis, AHeadWithoutValuesKeepsItsBasis) {
  at::Tensor k = rows(2, 1);
  const at::Tensor q = rows(6, 2);
  const at::Tensor eye = at::eye(dim);
  k.select(2, 0).zero_();
  EXPECT_TRUE(at::equal(balanced_basis(k, q)[0], eye));
  EXPECT_FALSE(at::equal(balanced_basis(k, q)[1], eye));
  k.select(2, 0).fill_(std::numeric_limits<float>::quiet_NaN());
  EXPECT_TRUE(at::equal(balanced_basis(k, q)[0], eye));
  // One direction alone: the others have none of the energy, and stay finite.
  k.select(2, 0).zero_();
  k.select(2, 0).select(2, 3).fill_(2);
  const at::Tensor narrow = balanced_basis(k, q)[0];
  EXPECT_TRUE(narrow.isfinite().all().item<bool>());
  EXPECT_TRUE(at::linalg_inv(narrow).isfinite().all().item<bool>());
}

TEST(KeyPositions, SpreadOverTheRoomDenserNearItsBeginning) {
  std::vector<std::int64_t> offsets;
  for (std::int64_t i = 0; i < 9; ++i) offsets.push_back(key_offset(i, 32, 7000));
  EXPECT_EQ(offsets, (std::vector<std::int64_t>{0, 20, 163, 551, 1306, 2551, 4408, 7000, 0}));
  EXPECT_EQ(key_offset(3, 4, 7000), 7000);
  EXPECT_EQ(key_offset(0, 1, 7000), 0);
  EXPECT_EQ(key_offset(3, 4, -5), 0);
}

}  // namespace
}  // namespace pq::quant
