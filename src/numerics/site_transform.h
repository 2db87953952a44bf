#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <variant>
#include <vector>

namespace pq {

/// A linear map of a row of `size` values that is computed while the model runs, as a short sequence of steps. Rows
/// are multiplied from the left (x <- x T), as everywhere: T = S_1 S_2 .. S_n, the first step first.

/// x[i] <- x[source[i]]: the permutation `source` of 0 .. size-1.
struct GatherStep {
  std::vector<std::int32_t> source;  ///< [size]
  bool operator==(const GatherStep&) const = default;
};
/// x[i] <- x[i] * factors[i]; no factor is 0.
struct MultiplyStep {
  std::vector<float> factors;  ///< [size]
  bool operator==(const MultiplyStep&) const = default;
};
/// Every `order` neighbouring values times the matrix of plan_hadamard(order), H / sqrt(n'). `order` divides size.
struct HadamardStep {
  std::int64_t order = 0;
  bool operator==(const HadamardStep&) const = default;
};
/// Every `block` neighbouring values times a matrix of their own, or all times the same one. `block` divides size.
struct BlockDiagonalStep {
  std::int64_t block = 0;
  std::int64_t count = 0;       ///< matrices: size / block, or 1 that all share
  std::vector<float> matrices;  ///< [count, block, block]
  bool operator==(const BlockDiagonalStep&) const = default;
};
/// x times the Kronecker product of two matrices; left * right = size. With x viewed as X [left, right]:
/// X <- L^T X R.
struct KroneckerStep {
  std::int64_t left = 0;
  std::int64_t right = 0;
  std::vector<float> left_matrix;   ///< [left, left]
  std::vector<float> right_matrix;  ///< [right, right]
  bool operator==(const KroneckerStep&) const = default;
};
using TransformStep = std::variant<GatherStep, MultiplyStep, HadamardStep, BlockDiagonalStep, KroneckerStep>;

/// "gather", "multiply", "hadamard", "block_diagonal", "kronecker"
std::string_view step_name(const TransformStep& step);

/// No steps: nothing is done.
struct SiteTransform {
  std::vector<TransformStep> steps;
  bool empty() const { return steps.empty(); }
  bool operator==(const SiteTransform&) const = default;
};

/// A sequence is short: more steps are refused.
inline constexpr std::size_t most_transform_steps = 16;

/// Which steps with which sizes: the same with empty vectors.
SiteTransform without_values(const SiteTransform& transform);

/// Throws InputError naming the step whose sizes do not fit rows of `size` values. Vectors need not be filled.
void check_transform_sizes(const SiteTransform& transform, std::int64_t size);
/// The same for the values: lengths of the vectors, a permutation that is none, a factor of 0, what is not finite.
void check_transform(const SiteTransform& transform, std::int64_t size);

/// Every row of `rows` [n, size] <- row T, in place. Works in float64 (float rows are rounded once, at the end). Throws
/// InputError when the rows do not fit; check_transform has passed.
void apply_transform(const SiteTransform& transform, std::span<double> rows, std::int64_t size);
void apply_transform(const SiteTransform& transform, std::span<float> rows, std::int64_t size);

/// Weights [rows, size] of a linear layer that reads what T makes of its input: every row w <- w T^-T, so that
/// (x T) w'^T = x w^T. Throws InputError for a matrix that has no inverse.
void transform_weights(const SiteTransform& transform, std::span<double> weights, std::int64_t size);

/// T^-T in float32: what Q is multiplied with where K is multiplied with T, so that the scores Q K^T stay. Steps that
/// are orthogonal by construction (gather, Hadamard) stay as they are. Throws InputError for a matrix that has no
/// inverse.
SiteTransform inverse_transposed(const SiteTransform& transform);

}  // namespace pq
