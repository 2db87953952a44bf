#include "verify/bounds.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "base/index.h"
#include "numerics/activation.h"
#include "numerics/transform_error.h"

namespace pq::runtime {

double sum_of_magnitudes(std::span<const double> x) {
  double sum = 0;
  for (const double value : x) sum += std::fabs(value);
  return sum;
}

Matrix norm_bound(const Matrix& reference) {
  Matrix bound = reference;
  // Sums of squares in at least 8 lanes, then a handful of operations.
  const double share = float_unit * (static_cast<double>(reference.columns) / 8 + 16);
  for (double& value : bound.values) value = std::fabs(value) * share;
  return bound;
}

Matrix product_bound(const LinearInput& input, const PackedLinear& linear, Matrix magnitude) {
  double share = float_unit * static_cast<double>(input.plan.columns + 8);
  if (linear.integer()) share = 2 * float_unit * static_cast<double>(input.plan.segments + 4);
  if (!linear.integer() && input.bf16_planes == 1) share += 0x1p-8;
  if (!linear.integer() && input.bf16_planes == kernels::float_planes) share += 3 * 0x1p-23;
  for (double& value : magnitude.values) value *= share;
  return magnitude;
}

Matrix gated_bound(Activation activation, const Matrix& gate, const Matrix& gate_bound, const Matrix& up,
                   const Matrix& up_bound, const Matrix& reference) {
  Matrix bound = reference;
  for (std::size_t i = 0; i < bound.values.size(); ++i) {
    // The slope of either activation is at most 1.13. The exponential may be off by 2^-20, and GELU's by the rounding
    // of its argument, which is at most 88 where anything is left of the quotient.
    const double x = gate.values[i];
    const double opened = activation == Activation::silu ? silu(x) : gelu_tanh(x);
    bound.values[i] = 1.13 * gate_bound.values[i] * (std::fabs(up.values[i]) + up_bound.values[i]) +
                      std::fabs(opened) * up_bound.values[i] +
                      (activation == Activation::silu ? 0x1p-20 : 0x1p-16) * std::fabs(reference.values[i]) + 1e-30;
  }
  return bound;
}

// A score is off by the rounding of Q (to 16 bits where K is integer) against K, and as much again for sums in float32;
// a softmax weight moves by that relatively, twice; 16-bit weights add 2^-16 of the largest one each.
Matrix heads_bound(const Matrix& before, const ModelSpec& spec, std::int64_t block, const SiteTransform& transform,
                   const SiteTransform& basis) {
  Matrix bound(before.rows, before.columns);
  const std::size_t dim = index(spec.head_dim);
  const RopeSpec& rope = spec.block(block).rope;
  const std::size_t width = std::holds_alternative<NoRope>(rope) ? 0 : index(spec.rotary_channels());
  const double amplitude = rope_amplitude(rope);
  constexpr double steps = 8;
  const bool rope_alone = transform.empty() && basis.empty();
  for (std::int64_t i = 0; i < before.rows; ++i) {
    RowBound whole;
    for (std::size_t first = 0; first < index(before.columns); first += dim) {
      const std::span<const double> head = before.row(i).subspan(first, dim);
      // Each output of RoPE alone is a signed sum of two of the head's values, which rotation by angles makes at most
      // twice as large.
      const double of_rope_alone = 2 * amplitude * steps * float_unit * sum_of_magnitudes(head);
      RowBound row;
      for (std::size_t j = 0; j < dim; ++j) {
        row.magnitude.push_back(j < width ? amplitude * (std::fabs(head[j]) + std::fabs(head[(j + width / 2) % width]))
                                          : std::fabs(head[j]));
        row.error.push_back(rope_alone ? of_rope_alone : steps / 2 * float_unit * row.magnitude.back());
      }
      row = transformed_bound(transform, std::move(row));
      whole.magnitude.insert(whole.magnitude.end(), row.magnitude.begin(), row.magnitude.end());
      whole.error.insert(whole.error.end(), row.error.begin(), row.error.end());
    }
    whole = transformed_bound(basis, std::move(whole));
    std::copy(whole.error.begin(), whole.error.end(), bound.row(i).begin());
  }
  return bound;
}

Matrix mean_bound(Matrix bound, const Matrix& reference, std::span<const float> mean) {
  if (mean.empty()) return bound;
  for (std::int64_t i = 0; i < bound.rows; ++i) {
    for (std::size_t j = 0; j < mean.size(); ++j) {
      bound.row(i)[j] += float_unit * (std::fabs(reference.row(i)[j]) + std::fabs(static_cast<double>(mean[j])));
    }
  }
  return bound;
}

Matrix transform_bound(const Matrix& before, const SiteTransform& transform) {
  Matrix bound(before.rows, before.columns);
  for (std::int64_t i = 0; i < before.rows; ++i) {
    RowBound row;
    for (const double value : before.row(i)) row.magnitude.push_back(std::fabs(value));
    row.error.assign(row.magnitude.size(), 0.0);
    row = transformed_bound(transform, std::move(row));
    // Exact where nothing can be lost (a gather).
    std::copy(row.error.begin(), row.error.end(), bound.row(i).begin());
  }
  return bound;
}

Matrix attention_bound(const AttentionInputs& inputs) {
  const std::size_t dim = index(inputs.head_dim);
  const double step = inputs.wide ? 0x1p-16 : float_unit;
  const auto keys = static_cast<double>(std::min<std::int64_t>(inputs.prefix_key.rows + inputs.key.rows, 128));
  double largest_key = 0;
  double largest_value = 0;
  for (const Matrix* rows : std::array{&inputs.key, &inputs.prefix_key}) {
    for (std::size_t first = 0; first < rows->values.size(); first += dim) {
      largest_key = std::max(largest_key, sum_of_magnitudes(std::span(rows->values).subspan(first, dim)));
    }
  }
  for (const Matrix* rows : std::array{&inputs.value, &inputs.prefix_value}) {
    for (const double x : rows->values) largest_value = std::max(largest_value, std::fabs(x));
  }
  Matrix bound(inputs.query.rows, inputs.query.columns);
  const std::vector<double>& query = inputs.query.values;
  for (std::size_t first = 0; first < query.size(); first += dim) {
    double largest_query = 0;
    for (std::size_t i = first; i < first + dim; ++i) largest_query = std::max(largest_query, std::fabs(query[i]));
    const double score = 2 * step * largest_key * largest_query * inputs.scale;
    const double rest = inputs.wide ? keys * 0x1p-16 : 16 * float_unit + keys * float_unit;
    std::fill_n(bound.values.begin() + static_cast<std::ptrdiff_t>(first), dim,
                largest_value * (2 * score + rest + 2e-6));
  }
  return bound;
}

}  // namespace pq::runtime
