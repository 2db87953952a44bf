#include "numerics/site_transform.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>

#include "base/error.h"
#include "numerics/hadamard.h"

namespace pq {
namespace {

constexpr std::string_view where = "site transform";

template <typename... Ts>
struct Overloaded : Ts... {
  using Ts::operator()...;
};
template <typename... Ts>
Overloaded(Ts...) -> Overloaded<Ts...>;

std::size_t squared(std::int64_t n) { return static_cast<std::size_t>(n) * static_cast<std::size_t>(n); }

[[noreturn]] void refuse(std::size_t index, const TransformStep& step, std::string_view what) {
  throw InputError(where, fmt::format("step {} ({}): {}", index, step_name(step), what));
}

/// What is wrong with the sizes of a step, or nothing.
std::string wrong_sizes(const TransformStep& step, std::int64_t size) {
  const auto divides = [&](std::int64_t part) { return part >= 1 && part <= size && size % part == 0; };
  return std::visit(
      Overloaded{[&](const HadamardStep& hadamard) {
                   return divides(hadamard.order) ? std::string()
                                                  : fmt::format("order {} does not divide {}", hadamard.order, size);
                 },
                 [&](const BlockDiagonalStep& diagonal) {
                   if (!divides(diagonal.block))
                     return fmt::format("blocks of {} do not divide {}", diagonal.block, size);
                   return diagonal.count == 1 || diagonal.count == size / diagonal.block
                              ? std::string()
                              : fmt::format("{} matrices are neither 1 nor one for each of {} blocks", diagonal.count,
                                            size / diagonal.block);
                 },
                 [&](const KroneckerStep& kronecker) {
                   return divides(kronecker.left) && divides(kronecker.right) &&
                                  kronecker.right == size / kronecker.left
                              ? std::string()
                              : fmt::format("{} times {} is not {}", kronecker.left, kronecker.right, size);
                 },
                 [](const auto&) { return std::string(); }},
      step);
}

std::string wrong_floats(const std::vector<float>& values, std::size_t wanted, std::string_view name) {
  if (values.size() != wanted) return fmt::format("{} {} instead of {}", values.size(), name, wanted);
  const auto bad = std::find_if(values.begin(), values.end(), [](float value) { return !std::isfinite(value); });
  return bad == values.end() ? std::string()
                             : fmt::format("element {} of the {} is not finite", bad - values.begin(), name);
}

std::string wrong_permutation(const std::vector<std::int32_t>& source, std::int64_t size) {
  if (source.size() != static_cast<std::size_t>(size)) {
    return fmt::format("{} places instead of {}", source.size(), size);
  }
  std::vector<bool> taken(source.size(), false);
  for (std::size_t i = 0; i < source.size(); ++i) {
    const std::int32_t from = source[i];
    if (from < 0 || from >= size || taken[static_cast<std::size_t>(from)]) {
      return fmt::format("place {} takes from {}, which is no place of {} or taken already", i, from, size);
    }
    taken[static_cast<std::size_t>(from)] = true;
  }
  return {};
}

std::string wrong_values(const TransformStep& step, std::int64_t size) {
  return std::visit(
      Overloaded{[&](const GatherStep& gather) { return wrong_permutation(gather.source, size); },
                 [&](const MultiplyStep& multiply) {
                   std::string wrong = wrong_floats(multiply.factors, static_cast<std::size_t>(size), "factors");
                   if (!wrong.empty()) return wrong;
                   const auto zero = std::find(multiply.factors.begin(), multiply.factors.end(), 0.0F);
                   return zero == multiply.factors.end()
                              ? std::string()
                              : fmt::format("factor {} is 0", zero - multiply.factors.begin());
                 },
                 [](const HadamardStep&) { return std::string(); },
                 [](const BlockDiagonalStep& diagonal) {
                   return wrong_floats(diagonal.matrices,
                                       static_cast<std::size_t>(diagonal.count) * squared(diagonal.block), "values");
                 },
                 [](const KroneckerStep& kronecker) {
                   std::string wrong = wrong_floats(kronecker.left_matrix, squared(kronecker.left), "left values");
                   return wrong.empty() ? wrong_floats(kronecker.right_matrix, squared(kronecker.right), "right values")
                                        : wrong;
                 }},
      step);
}

/// A step in float64.
struct WideStep {
  const TransformStep* step = nullptr;
  std::vector<double> first;   // factors; matrices; the left matrix
  std::vector<double> second;  // the right matrix
};

std::vector<double> widened(const std::vector<float>& values) { return {values.begin(), values.end()}; }

WideStep widen(const TransformStep& step) {
  WideStep wide{&step, {}, {}};
  std::visit(Overloaded{[&](const MultiplyStep& multiply) { wide.first = widened(multiply.factors); },
                        [&](const BlockDiagonalStep& diagonal) { wide.first = widened(diagonal.matrices); },
                        [&](const KroneckerStep& kronecker) {
                          wide.first = widened(kronecker.left_matrix);
                          wide.second = widened(kronecker.right_matrix);
                        },
                        [](const auto&) {}},
             step);
  return wide;
}

/// matrix [n, n] <- its inverse transposed, by Gauss-Jordan elimination with row pivots.
void invert_transposed(std::span<double> matrix, std::size_t n) {
  std::vector<double> inverse(n * n, 0.0);
  double largest = 0;
  for (std::size_t i = 0; i < n; ++i) inverse[i * n + i] = 1;
  for (const double value : matrix) largest = std::max(largest, std::fabs(value));
  for (std::size_t column = 0; column < n; ++column) {
    std::size_t pivot = column;
    for (std::size_t row = column + 1; row < n; ++row) {
      if (std::fabs(matrix[row * n + column]) > std::fabs(matrix[pivot * n + column])) pivot = row;
    }
    // float32 entries: what is left of a singular matrix is far below this, of a usable one above it.
    if (!(std::fabs(matrix[pivot * n + column]) > 1e-9 * largest)) {
      throw InputError(where, fmt::format("a matrix of {} x {} has no inverse", n, n));
    }
    for (std::size_t i = 0; i < n && pivot != column; ++i) {
      std::swap(matrix[pivot * n + i], matrix[column * n + i]);
      std::swap(inverse[pivot * n + i], inverse[column * n + i]);
    }
    const double scale = 1 / matrix[column * n + column];
    for (std::size_t i = 0; i < n; ++i) {
      matrix[column * n + i] *= scale;
      inverse[column * n + i] *= scale;
    }
    for (std::size_t row = 0; row < n; ++row) {
      const double factor = matrix[row * n + column];
      if (row == column || factor == 0) continue;
      for (std::size_t i = 0; i < n; ++i) {
        matrix[row * n + i] -= factor * matrix[column * n + i];
        inverse[row * n + i] -= factor * inverse[column * n + i];
      }
    }
  }
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) matrix[i * n + j] = inverse[j * n + i];
  }
}

/// The step's matrix S becomes S^-T. Gather and Hadamard are orthogonal: they stay.
void invert_transposed(WideStep& wide) {
  const auto invert_all = [](std::vector<double>& matrices, std::int64_t order) {
    for (std::size_t first = 0; first < matrices.size(); first += squared(order)) {
      invert_transposed(std::span(matrices).subspan(first, squared(order)), static_cast<std::size_t>(order));
    }
  };
  std::visit(Overloaded{[&](const MultiplyStep&) {
                          for (double& factor : wide.first) factor = 1 / factor;
                        },
                        [&](const BlockDiagonalStep& diagonal) { invert_all(wide.first, diagonal.block); },
                        [&](const KroneckerStep& kronecker) {
                          invert_all(wide.first, kronecker.left);
                          invert_all(wide.second, kronecker.right);
                        },
                        [](const auto&) {}},
             *wide.step);
}

/// out [n] <- x [n] * matrix [n, n], both with neighbours `stride` apart.
void multiply_strided(double* x, std::size_t stride, std::span<const double> matrix, std::size_t n,
                      std::vector<double>& sums) {
  sums.assign(n, 0.0);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) sums[j] += x[i * stride] * matrix[i * n + j];
  }
  for (std::size_t j = 0; j < n; ++j) x[j * stride] = sums[j];
}

void apply(const WideStep& wide, std::span<double> row) {
  std::vector<double> kept;
  std::visit(Overloaded{[&](const GatherStep& gather) {
                          kept.assign(row.begin(), row.end());
                          for (std::size_t i = 0; i < row.size(); ++i)
                            row[i] = kept[static_cast<std::size_t>(gather.source[i])];
                        },
                        [&](const MultiplyStep&) {
                          for (std::size_t i = 0; i < row.size(); ++i) row[i] *= wide.first[i];
                        },
                        [&](const HadamardStep& hadamard) {
                          const HadamardPlan plan = plan_hadamard(hadamard.order);
                          const auto order = static_cast<std::size_t>(hadamard.order);
                          for (std::size_t first = 0; first < row.size(); first += order) {
                            apply_hadamard(plan, row.subspan(first, order));
                          }
                        },
                        [&](const BlockDiagonalStep& diagonal) {
                          const auto block = static_cast<std::size_t>(diagonal.block);
                          const std::span<const double> matrices(wide.first);
                          for (std::size_t i = 0; i < row.size() / block; ++i) {
                            const std::size_t matrix = diagonal.count == 1 ? 0 : i;
                            multiply_strided(&row[i * block], 1,
                                             matrices.subspan(matrix * block * block, block * block), block, kept);
                          }
                        },
                        [&](const KroneckerStep& kronecker) {
                          const auto left = static_cast<std::size_t>(kronecker.left);
                          const auto right = static_cast<std::size_t>(kronecker.right);
                          for (std::size_t i = 0; i < left; ++i)
                            multiply_strided(&row[i * right], 1, wide.second, right, kept);
                          for (std::size_t j = 0; j < right; ++j)
                            multiply_strided(&row[j], right, wide.first, left, kept);
                        }},
             *wide.step);
}

/// Throws unless `rows` are whole rows of `size` values that the transform fits.
void require_rows(const SiteTransform& transform, std::size_t rows, std::int64_t size) {
  if (size < 1 || rows % static_cast<std::size_t>(size) != 0) {
    throw InputError(where, fmt::format("{} values are not whole rows of {}", rows, size));
  }
  check_transform_sizes(transform, size);
  for (std::size_t i = 0; i < transform.steps.size(); ++i) {
    const std::size_t wanted =
        std::visit(Overloaded{[](const GatherStep& gather) { return gather.source.size(); },
                              [](const MultiplyStep& multiply) { return multiply.factors.size(); },
                              [&](const auto&) { return static_cast<std::size_t>(size); }},
                   transform.steps[i]);
    if (wanted != static_cast<std::size_t>(size)) {
      refuse(i, transform.steps[i], fmt::format("a row of {} values does not fit {}", size, wanted));
    }
  }
}

void apply_to_rows(const WideStep& wide, std::span<double> rows, std::int64_t size) {
  const auto columns = static_cast<std::size_t>(size);
  for (std::size_t first = 0; first < rows.size(); first += columns) apply(wide, rows.subspan(first, columns));
}

}  // namespace

std::string_view step_name(const TransformStep& step) {
  static constexpr std::array<std::string_view, std::variant_size_v<TransformStep>> names{
      "gather", "multiply", "hadamard", "block_diagonal", "kronecker"};
  return names[step.index()];
}

SiteTransform without_values(const SiteTransform& transform) {
  SiteTransform plain;
  for (const TransformStep& step : transform.steps) {
    plain.steps.push_back(std::visit(Overloaded{[](const GatherStep&) -> TransformStep { return GatherStep{}; },
                                                [](const MultiplyStep&) -> TransformStep { return MultiplyStep{}; },
                                                [](const HadamardStep& hadamard) -> TransformStep { return hadamard; },
                                                [](const BlockDiagonalStep& diagonal) -> TransformStep {
                                                  return BlockDiagonalStep{diagonal.block, diagonal.count, {}};
                                                },
                                                [](const KroneckerStep& kronecker) -> TransformStep {
                                                  return KroneckerStep{kronecker.left, kronecker.right, {}, {}};
                                                }},
                                     step));
  }
  return plain;
}

void check_transform_sizes(const SiteTransform& transform, std::int64_t size) {
  if (transform.steps.size() > most_transform_steps) {
    throw InputError(where, fmt::format("{} steps", transform.steps.size()),
                     fmt::format("at most {} are supported", most_transform_steps));
  }
  for (std::size_t i = 0; i < transform.steps.size(); ++i) {
    const std::string wrong = wrong_sizes(transform.steps[i], size);
    if (!wrong.empty()) refuse(i, transform.steps[i], wrong);
  }
}

void check_transform(const SiteTransform& transform, std::int64_t size) {
  check_transform_sizes(transform, size);
  for (std::size_t i = 0; i < transform.steps.size(); ++i) {
    const std::string wrong = wrong_values(transform.steps[i], size);
    if (!wrong.empty()) refuse(i, transform.steps[i], wrong);
  }
}

void apply_transform(const SiteTransform& transform, std::span<double> rows, std::int64_t size) {
  require_rows(transform, rows.size(), size);
  for (const TransformStep& step : transform.steps) apply_to_rows(widen(step), rows, size);
}

void apply_transform(const SiteTransform& transform, std::span<float> rows, std::int64_t size) {
  std::vector<double> wide(rows.begin(), rows.end());
  apply_transform(transform, wide, size);
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<float>(wide[i]);
}

void transform_weights(const SiteTransform& transform, std::span<double> weights, std::int64_t size) {
  require_rows(transform, weights.size(), size);
  // (S_1 S_2 .. S_n)^-T = S_1^-T S_2^-T .. S_n^-T: the same order.
  for (const TransformStep& step : transform.steps) {
    WideStep wide = widen(step);
    invert_transposed(wide);
    apply_to_rows(wide, weights, size);
  }
}

SiteTransform inverse_transposed(const SiteTransform& transform) {
  const auto narrowed = [](const std::vector<double>& values) {
    return std::vector<float>(values.begin(), values.end());
  };
  SiteTransform inverse = transform;
  for (TransformStep& step : inverse.steps) {
    WideStep wide = widen(step);
    invert_transposed(wide);
    std::visit(Overloaded{[&](MultiplyStep& multiply) { multiply.factors = narrowed(wide.first); },
                          [&](BlockDiagonalStep& diagonal) { diagonal.matrices = narrowed(wide.first); },
                          [&](KroneckerStep& kronecker) {
                            kronecker.left_matrix = narrowed(wide.first);
                            kronecker.right_matrix = narrowed(wide.second);
                          },
                          [](auto&) {}},
               step);
  }
  return inverse;
}

}  // namespace pq
