#include "numerics/transform_error.h"

#include <cmath>
#include <cstddef>
#include <span>

#include "numerics/hadamard.h"

namespace pq {
namespace {

// Rounding of float32: half a unit in the last place of 1.
constexpr double unit = 0x1p-24;

/// y = x M for a matrix of |entries|: element i of x lies at first + i * stride.
void multiply_bound(RowBound& row, std::size_t first, std::size_t stride, std::span<const float> matrix,
                    std::size_t n) {
  std::vector<double> magnitude(n, 0.0);
  std::vector<double> error(n, 0.0);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      const double entry = std::fabs(static_cast<double>(matrix[i * n + j]));
      magnitude[j] += row.magnitude[first + i * stride] * entry;
      error[j] += row.error[first + i * stride] * entry;
    }
  }
  for (std::size_t j = 0; j < n; ++j) {
    row.magnitude[first + j * stride] = magnitude[j];
    row.error[first + j * stride] = error[j] + (static_cast<double>(n) + 2) * unit * magnitude[j];
  }
}

void bound(const GatherStep& gather, RowBound& row) {
  const RowBound before = row;
  for (std::size_t i = 0; i < gather.source.size(); ++i) {
    row.magnitude[i] = before.magnitude[static_cast<std::size_t>(gather.source[i])];
    row.error[i] = before.error[static_cast<std::size_t>(gather.source[i])];
  }
}

void bound(const MultiplyStep& multiply, RowBound& row) {
  for (std::size_t i = 0; i < multiply.factors.size(); ++i) {
    const double factor = std::fabs(static_cast<double>(multiply.factors[i]));
    row.magnitude[i] *= factor;
    row.error[i] = row.error[i] * factor + 2 * unit * row.magnitude[i];
  }
}

// Every value is a signed sum of its block, divided by the root of its size.
void bound(const HadamardStep& hadamard, RowBound& row) {
  const HadamardPlan plan = plan_hadamard(hadamard.order);
  const double steps = std::log2(static_cast<double>(plan.power)) + static_cast<double>(plan.base) + 4;
  const auto size = static_cast<std::size_t>(plan.block_order());
  const double root = std::sqrt(static_cast<double>(size));
  for (std::size_t first = 0; first < row.magnitude.size(); first += size) {
    double magnitude = 0;
    double error = 0;
    for (std::size_t i = first; i < first + size; ++i) {
      magnitude += row.magnitude[i];
      error += row.error[i];
    }
    for (std::size_t i = first; i < first + size; ++i) {
      row.magnitude[i] = magnitude / root;
      row.error[i] = (error + steps * unit * magnitude) / root;
    }
  }
}

void bound(const BlockDiagonalStep& diagonal, RowBound& row) {
  const auto block = static_cast<std::size_t>(diagonal.block);
  const std::span<const float> matrices(diagonal.matrices);
  for (std::size_t i = 0; i < row.magnitude.size() / block; ++i) {
    const std::size_t matrix = diagonal.count == 1 ? 0 : i;
    multiply_bound(row, i * block, 1, matrices.subspan(matrix * block * block, block * block), block);
  }
}

void bound(const KroneckerStep& kronecker, RowBound& row) {
  const auto left = static_cast<std::size_t>(kronecker.left);
  const auto right = static_cast<std::size_t>(kronecker.right);
  for (std::size_t i = 0; i < left; ++i) multiply_bound(row, i * right, 1, kronecker.right_matrix, right);
  for (std::size_t j = 0; j < right; ++j) multiply_bound(row, j, right, kronecker.left_matrix, left);
}

}  // namespace

RowBound transformed_bound(const SiteTransform& transform, RowBound row) {
  for (const TransformStep& step : transform.steps) {
    std::visit([&](const auto& kind) { bound(kind, row); }, step);
  }
  return row;
}

}  // namespace pq
