#include "numerics/hadamard.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <mutex>
#include <string_view>

#include "base/error.h"
#include "numerics/galois_field.h"

namespace pq {
namespace {

constexpr std::string_view where = "Hadamard matrix";
constexpr std::int64_t max_matrix_order = 16384;

enum class Construction { none, trivial, paley_1, paley_2 };

Construction construction_of(std::int64_t m) {
  if (m == 1) return Construction::trivial;
  if (m < 4 || m % 4 != 0) return Construction::none;
  if (prime_power(m - 1)) return Construction::paley_1;  // m - 1 = 3 (mod 4) because 4 divides m
  const std::int64_t q = m / 2 - 1;
  return q % 4 == 1 && prime_power(q) ? Construction::paley_2 : Construction::none;
}

// The (q+1) x (q+1) matrix S = [[0, 1], [corner, Q]], Q[a][b] = chi(a - b).
std::vector<std::int8_t> bordered_jacobsthal(std::int64_t q, std::int8_t corner) {
  const GaloisField field(prime_power(q).value());
  const std::vector<std::int8_t> chi = field.quadratic_character();
  const auto n = static_cast<std::size_t>(q + 1);
  std::vector<std::int8_t> s(n * n, 0);
  for (std::size_t i = 1; i < n; ++i) {
    s[i] = 1;
    s[i * n] = corner;
    for (std::size_t j = 1; j < n; ++j) {
      const std::int64_t difference =
          field.subtract(static_cast<std::int64_t>(i - 1), static_cast<std::int64_t>(j - 1));
      s[i * n + j] = chi[static_cast<std::size_t>(difference)];
    }
  }
  return s;
}

std::vector<std::int8_t> paley_1(std::int64_t q) {
  std::vector<std::int8_t> h = bordered_jacobsthal(q, -1);
  const auto n = static_cast<std::size_t>(q + 1);
  for (std::size_t i = 0; i < n; ++i) h[i * n + i] = 1;
  return h;
}

std::vector<std::int8_t> paley_2(std::int64_t q) {
  constexpr std::int8_t off_diagonal[2][2] = {{1, 1}, {1, -1}};
  constexpr std::int8_t diagonal[2][2] = {{1, -1}, {-1, -1}};
  const std::vector<std::int8_t> s = bordered_jacobsthal(q, 1);
  const auto n = static_cast<std::size_t>(q + 1);
  std::vector<std::int8_t> h(4 * n * n);
  for (std::size_t i = 0; i < 2 * n; ++i) {
    for (std::size_t j = 0; j < 2 * n; ++j) {
      const std::int8_t sign = s[i / 2 * n + j / 2];
      h[i * 2 * n + j] =
          i / 2 == j / 2 ? diagonal[i % 2][j % 2] : static_cast<std::int8_t>(sign * off_diagonal[i % 2][j % 2]);
    }
  }
  return h;
}

// apply_hadamard works a row at a time, so the base matrices it met are kept for the life of the program.
const std::vector<std::int8_t>& kept_base(std::int64_t m) {
  static std::mutex mutex;
  static std::map<std::int64_t, std::vector<std::int8_t>> bases;
  const std::lock_guard lock(mutex);
  const auto found = bases.find(m);
  return found != bases.end() ? found->second : bases.emplace(m, hadamard_base(m)).first->second;
}

bool power_of_two(std::int64_t n) { return n > 0 && (n & (n - 1)) == 0; }

void check(const HadamardPlan& plan, std::size_t row_size) {
  const bool consistent = plan.blocks > 0 && plan.base > 0 && plan.base <= max_hadamard_base &&
                          power_of_two(plan.power) && plan.order > 0 && plan.order % plan.base == 0 &&
                          plan.order / plan.base % plan.power == 0 &&
                          plan.order / plan.base / plan.power == plan.blocks;
  if (!consistent) {
    throw InputError(where, fmt::format("order {} is not {} blocks x base {} x power {}", plan.order, plan.blocks,
                                        plan.base, plan.power));
  }
  if (row_size != static_cast<std::size_t>(plan.order)) {
    throw InputError(where, fmt::format("a row of {} values does not fit order {}", row_size, plan.order));
  }
}

// x <- x * (H_power (x) I), x viewed as [power, base].
void apply_sylvester(std::span<double> x, std::size_t base) {
  for (std::size_t half = base; half < x.size(); half *= 2) {
    for (std::size_t start = 0; start < x.size(); start += 2 * half) {
      for (std::size_t i = start; i < start + half; ++i) {
        const double a = x[i];
        const double b = x[i + half];
        x[i] = a + b;
        x[i + half] = a - b;
      }
    }
  }
}

// x <- x * (I (x) H_base), or with the transpose of H_base.
void apply_base(std::span<double> x, std::span<const std::int8_t> h, std::size_t base, bool transposed) {
  std::vector<double> sums(base);
  for (std::size_t start = 0; start < x.size(); start += base) {
    const std::span<double> part = x.subspan(start, base);
    for (std::size_t i = 0; i < base; ++i) {
      if (transposed) {
        double sum = 0;
        for (std::size_t j = 0; j < base; ++j) sum += part[j] * h[i * base + j];
        sums[i] = sum;
      } else {
        if (i == 0) sums.assign(base, 0.0);
        for (std::size_t j = 0; j < base; ++j) sums[j] += part[i] * h[i * base + j];
      }
    }
    std::copy(sums.begin(), sums.end(), part.begin());
  }
}

void apply(const HadamardPlan& plan, std::span<double> row, bool transposed) {
  check(plan, row.size());
  const auto block = static_cast<std::size_t>(plan.block_order());
  const auto base = static_cast<std::size_t>(plan.base);
  const double root = std::sqrt(static_cast<double>(block));
  for (std::size_t start = 0; start < row.size(); start += block) {
    const std::span<double> part = row.subspan(start, block);
    if (base > 1) apply_base(part, kept_base(plan.base), base, transposed);
    apply_sylvester(part, base);
    for (double& value : part) value /= root;
  }
}

void apply(const HadamardPlan& plan, std::span<float> row, bool transposed) {
  std::vector<double> wide(row.begin(), row.end());
  apply(plan, wide, transposed);
  for (std::size_t i = 0; i < row.size(); ++i) row[i] = static_cast<float>(wide[i]);
}

}  // namespace

HadamardPlan plan_hadamard(std::int64_t n) {
  if (n < 1) throw InputError(where, fmt::format("order {} is not positive", n));
  const std::int64_t largest_power = n & -n;
  const std::int64_t odd = n / largest_power;
  for (std::int64_t power = largest_power; power >= 1; power /= 2) {
    const std::int64_t base = n / power;
    if (base > max_hadamard_base) break;
    if (construction_of(base) != Construction::none) return {n, 1, base, power};
  }
  return {n, odd, 1, largest_power};
}

std::vector<std::int8_t> hadamard_base(std::int64_t m) {
  if (m >= 1 && m <= max_hadamard_base) {
    switch (construction_of(m)) {
      case Construction::trivial:
        return {1};
      case Construction::paley_1:
        return paley_1(m - 1);
      case Construction::paley_2:
        return paley_2(m / 2 - 1);
      case Construction::none:
        break;
    }
  }
  throw InputError(where, fmt::format("no Paley matrix of order {} is known here", m));
}

std::vector<std::int8_t> hadamard_matrix(std::int64_t n) {
  const HadamardPlan plan = plan_hadamard(n);
  if (n > max_matrix_order) {
    throw InputError(where, fmt::format("order {} is too large to write out", n), "use apply_hadamard");
  }
  const std::vector<std::int8_t> base_matrix = hadamard_base(plan.base);
  const auto order = static_cast<std::size_t>(n);
  const auto block = static_cast<std::size_t>(plan.block_order());
  const auto base = static_cast<std::size_t>(plan.base);
  std::vector<std::int8_t> h(order * order, 0);
  for (std::size_t i = 0; i < order; ++i) {
    const std::size_t start = i / block * block;
    for (std::size_t j = start; j < start + block; ++j) {
      // Entry (a, b) of the Sylvester matrix is -1 to the number of ones that a and b share.
      const std::size_t shared = (i - start) / base & (j - start) / base;
      const std::int8_t entry = base_matrix[i % base * base + j % base];
      h[i * order + j] = std::popcount(shared) % 2 == 0 ? entry : static_cast<std::int8_t>(-entry);
    }
  }
  return h;
}

void apply_hadamard(const HadamardPlan& plan, std::span<float> row) { apply(plan, row, false); }
void apply_hadamard(const HadamardPlan& plan, std::span<double> row) { apply(plan, row, false); }
void apply_hadamard_transposed(const HadamardPlan& plan, std::span<float> row) { apply(plan, row, true); }
void apply_hadamard_transposed(const HadamardPlan& plan, std::span<double> row) { apply(plan, row, true); }

}  // namespace pq
