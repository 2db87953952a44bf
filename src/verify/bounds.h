#pragma once

#include <cstdint>
#include <span>

#include "numerics/site_transform.h"
#include "runtime/linear_input.h"
#include "runtime/packed_linear.h"
#include "verify/matrix.h"

namespace pq::runtime {

/// How far the runtime's results may be from exact arithmetic on the same inputs: one bound a value.

/// Rounding of float32: half a unit in the last place of 1.
inline constexpr double float_unit = 0x1p-24;

double sum_of_magnitudes(std::span<const double> x);

/// Of an RMS norm's output, `reference` [rows, columns].
Matrix norm_bound(const Matrix& reference);
/// Of a linear layer's output; `magnitude` is the sum of the absolute values of the terms of each.
Matrix product_bound(const LinearInput& input, const PackedLinear& linear, Matrix magnitude);
/// Of silu(gate) * up with bounds of gate and up; `reference` is the exact product.
Matrix gated_bound(Activation activation, const Matrix& gate, const Matrix& gate_bound, const Matrix& up,
                   const Matrix& up_bound, const Matrix& reference);

/// Of rows of heads [rows, heads * head_dim] after the RoPE of block `block`, a transform of each head and then one of
/// the whole row, `basis`; `before`: what goes in.
Matrix heads_bound(const Matrix& before, const ModelSpec& spec, std::int64_t block, const SiteTransform& transform,
                   const SiteTransform& basis);
/// Of rows of K without their mean: what `bound` says before, and one rounding. `reference`: after it.
Matrix mean_bound(Matrix bound, const Matrix& reference, std::span<const float> mean);
/// Of rows after a transform; `before`: what goes in.
Matrix transform_bound(const Matrix& before, const SiteTransform& transform);

/// What the bound of attention follows from.
struct AttentionInputs {
  const Matrix& query;
  const Matrix& key;
  const Matrix& value;
  const Matrix& prefix_key;
  const Matrix& prefix_value;
  std::int64_t head_dim;
  double scale;  ///< of scores
  bool wide;     ///< Q and the probabilities are 16-bit codes
};
Matrix attention_bound(const AttentionInputs& inputs);

}  // namespace pq::runtime
