#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace pq {

/// How the online and fused rotations of order n are built (ALGORITHM.md section 4): order = blocks * base * power.
///
/// Let n' = base * power. The n' x n' matrix is H = H_power (x) H_base, the Kronecker product of the Sylvester matrix
/// of order `power` (a power of two; H_2n = [[H, H], [H, -H]]) and the Paley matrix of order `base` (1 for none). A row
/// x of `order` values is viewed as [blocks, power, base]; H acts on every block alone, so with blocks > 1 the whole
/// matrix is block-diagonal. blocks > 1 happens only where no factorisation n = m * 2^k has a construction: then n' is
/// the largest power of two that divides n.
///
/// The matrix is orthogonal (H H^T = n' I) but, with a base from Paley I, NOT symmetric: x H and x H^T differ.
struct HadamardPlan {
  std::int64_t order = 0;
  std::int64_t blocks = 1;
  std::int64_t base = 1;
  std::int64_t power = 1;

  /// Order of one diagonal block: base * power.
  std::int64_t block_order() const { return base * power; }
  bool operator==(const HadamardPlan&) const = default;
};

/// The largest Paley matrix that plan_hadamard considers: beyond it a rotation costs more than the linear layer it
/// precedes.
inline constexpr std::int64_t max_hadamard_base = 4096;

/// The plan for order n with the smallest base that works. Throws InputError for n < 1.
HadamardPlan plan_hadamard(std::int64_t n);

/// H_base [m, m], row-major, entries +1 and -1. m is 1, q + 1 for a prime power q = 3 (mod 4) (Paley I), or 2 (q + 1)
/// for a prime power q = 1 (mod 4) (Paley II); where both exist it is Paley I. With Q[a][b] = chi(a - b), chi the
/// quadratic character of GF(q):
///   Paley I:  H = I + [[0, 1], [-1, Q]], not symmetric;
///   Paley II: H = [[0, 1], [1, Q]] (x) [[1, 1], [1, -1]] + I (x) [[1, -1], [-1, -1]], symmetric.
/// Throws InputError for another m, or one above max_hadamard_base.
std::vector<std::int8_t> hadamard_base(std::int64_t m);

/// The whole matrix of plan_hadamard(n) [n, n], row-major, entries -1, 0 (outside the diagonal blocks) and +1.
/// For tests and small n: throws InputError for n above 16384.
std::vector<std::int8_t> hadamard_matrix(std::int64_t n);

/// row <- row * H / sqrt(n'), in place; row has plan.order values. Works in float64 (float rows are rounded once, at
/// the end). Throws InputError when the row's length or the plan is not right.
void apply_hadamard(const HadamardPlan& plan, std::span<float> row);
void apply_hadamard(const HadamardPlan& plan, std::span<double> row);

/// row <- row * (H / sqrt(n'))^T: the inverse of apply_hadamard.
void apply_hadamard_transposed(const HadamardPlan& plan, std::span<float> row);
void apply_hadamard_transposed(const HadamardPlan& plan, std::span<double> row);

}  // namespace pq
