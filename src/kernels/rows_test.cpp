#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <vector>

#include "base/half.h"
#include "kernels/test_tables.h"

namespace pq::kernels {
namespace {

constexpr double unit = 0x1p-24;

/// Additions in one lane and of the lanes, at least 16 of which every vectorized kernel has; the scalar one adds all n.
double additions(const KernelTable& table, std::int64_t n) {
  return static_cast<double>(&table == &definition() ? n : n / 16 + 17);
}

using RowKernel = TableTest;

/// Largest relative error of `result` against gamma * x / sqrt(mean(x^2) + eps), as a share of what is allowed: half of
/// the sum's error (the square root halves it) and five operations.
double worst_norm(const std::vector<float>& x, const std::vector<float>& gamma, double eps,
                  const std::vector<float>& result, double additions) {
  double squares = 0;
  for (const float value : x) squares += static_cast<double>(value) * static_cast<double>(value);
  const double inverse = 1 / std::sqrt(squares / static_cast<double>(x.size()) + eps);
  const double allowed = (additions / 2 + 5) * unit;
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double wanted = static_cast<double>(x[i]) * inverse * static_cast<double>(gamma[i]);
    if (wanted == 0) continue;
    worst = std::max(worst, std::fabs(static_cast<double>(result[i]) / wanted - 1) / allowed);
  }
  return worst;
}

TEST_P(RowKernel, normalizes) {
  const auto eps = static_cast<double>(1e-5F);
  for (const std::int64_t n : row_lengths()) {
    for (const float spread : {1.0F, 1e-3F, 300.0F}) {
      Guarded<float> x(activations_like(n, static_cast<unsigned>(n), spread), 1);
      Guarded<float> gamma(activations_like(n, 3), 2);
      Guarded<float> out(n, 3);
      table().rms_norm(x.data(), gamma.data(), 1e-5F, n, out.data());
      ASSERT_TRUE(out.untouched_around()) << n;
      ASSERT_LE(worst_norm(x.values(), gamma.values(), eps, out.values(), additions(table(), n)), 1.0) << n;
      if (spread < 1) {
        EXPECT_GT(worst_norm(x.values(), gamma.values(), 0, out.values(), additions(table(), n)), 10.0) << "no eps";
      }
    }
  }
}

TEST_P(RowKernel, rotates_positions) {
  for (const std::int64_t head_dim : {2, 6, 16, 32, 34, 40, 64, 80, 96, 100, 128, 256}) {
    const std::int64_t half = head_dim / 2;
    const std::int64_t heads = 3;
    const std::vector<float> x = activations_like(heads * head_dim, 12);
    Guarded<float> row(x, 1);
    Guarded<float> cosine(half);
    Guarded<float> sine(half, 2);
    for (std::int64_t i = 0; i < half; ++i) {
      cosine[i] = static_cast<float>(std::cos(0.3 * static_cast<double>(i + 1)));
      sine[i] = static_cast<float>(std::sin(0.3 * static_cast<double>(i + 1)));
    }
    table().rope(row.data(), heads, head_dim, head_dim, cosine.data(), sine.data());
    ASSERT_TRUE(row.untouched_around());
    bool neighbours_would_do = half > 1;
    for (std::int64_t head = 0; head < heads; ++head) {
      for (std::int64_t i = 0; i < half; ++i) {
        const auto at = [&](std::int64_t j) {
          return static_cast<double>(x[static_cast<std::size_t>(head * head_dim + j)]);
        };
        const auto got = [&](std::int64_t j) { return static_cast<double>(row[head * head_dim + j]); };
        const auto c = static_cast<double>(cosine[i]);
        const auto s = static_cast<double>(sine[i]);
        const double allowed = 2 * unit * (std::fabs(at(i)) + std::fabs(at(i + half)));
        ASSERT_NEAR(got(i), at(i) * c - at(i + half) * s, allowed) << head_dim;
        ASSERT_NEAR(got(i + half), at(i + half) * c + at(i) * s, allowed) << head_dim;
        const double paired = at(2 * i) * c - at(2 * i + 1) * s;
        neighbours_would_do = neighbours_would_do && std::fabs(got(2 * i) - paired) <= allowed;
      }
    }
    EXPECT_FALSE(neighbours_would_do);
  }
}

TEST_P(RowKernel, multiplies_rows_by_a_matrix) {
  for (const std::int64_t n : {1, 6, 16, 32, 34, 64, 80, 100, 128, 256}) {
    for (const std::int64_t count : {1, 2, 3, 4, 7}) {
      const std::vector<float> x = activations_like(count * n, 21);
      const std::vector<float> matrix = activations_like(n * n, 22, 0.3F);
      Guarded<float> rows(x, 1);
      Guarded<float> entries(matrix, 2);
      Guarded<float> scratch(std::min<std::int64_t>(count, 4) * n);
      table().multiply_rows(rows.data(), count, n, entries.data(), scratch.data());
      ASSERT_TRUE(rows.untouched_around() && scratch.untouched_around()) << n;
      double furthest = 0;
      double transposed = 0;
      for (std::int64_t row = 0; row < count; ++row) {
        for (std::int64_t j = 0; j < n; ++j) {
          double sum = 0;
          double other = 0;
          double magnitude = 0;
          for (std::int64_t i = 0; i < n; ++i) {
            const auto value = static_cast<double>(x[static_cast<std::size_t>(row * n + i)]);
            sum += value * static_cast<double>(entries[i * n + j]);
            other += value * static_cast<double>(entries[j * n + i]);
            magnitude += std::fabs(value * static_cast<double>(entries[i * n + j]));
          }
          const double allowed = static_cast<double>(n + 1) * unit * magnitude;
          const auto got = static_cast<double>(rows[row * n + j]);
          furthest = std::max(furthest, std::fabs(got - sum) / allowed);
          transposed = std::max(transposed, std::fabs(got - other) / allowed);
        }
      }
      EXPECT_LE(furthest, 1.0) << n << " " << count;
      if (n > 1) {
        EXPECT_GT(transposed, 100.0) << n << " " << count;
      }
    }
  }
}

TEST_P(RowKernel, widens_every_half) {
  std::vector<std::uint16_t> all(65536);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint16_t>(i);
  const auto check = [](float got, float wanted) {
    return std::isnan(wanted) ? std::isnan(got)
                              : std::bit_cast<std::uint32_t>(got) == std::bit_cast<std::uint32_t>(wanted);
  };
  std::vector<std::int64_t> lengths = row_lengths();
  lengths.push_back(65536);
  for (const std::int64_t n : lengths) {
    const std::int64_t first = n * 797 % (65536 - n + 1);
    Guarded<std::uint16_t> x(std::vector<std::uint16_t>(all.begin() + first, all.begin() + first + n), 1);
    Guarded<float> f16(n, 1);
    Guarded<float> bf16(n, 2);
    table().f16_to_float(x.data(), n, f16.data());
    table().bf16_to_float(x.data(), n, bf16.data());
    ASSERT_TRUE(f16.untouched_around() && bf16.untouched_around()) << n;
    for (std::int64_t i = 0; i < n; ++i) {
      ASSERT_TRUE(check(f16[i], pq::f16_to_float(x[i]))) << x[i];
      ASSERT_TRUE(check(bf16[i], pq::bf16_to_float(x[i]))) << x[i];
    }
  }
}

TEST_P(RowKernel, rounds_to_bfloat16) {
  const std::vector<std::uint32_t> hard{0x00000000, 0x80000000, 0x00000001, 0x00008000, 0x00018000,
                                        0x3f808000, 0x3f818000, 0x3f807fff, 0x3f808001, 0x7f7f7fff,
                                        0x7f7f8000, 0xff7fffff, 0x7f800000, 0xff800000, 0x7f800001,
                                        0xffffffff, 0x7fc00000, 0x00ffffff, 0x007fffff};
  for (const std::int64_t n : row_lengths()) {
    Guarded<float> x(activations_like(n, static_cast<unsigned>(n)), 1);
    for (std::int64_t i = n % 5; i < n; i += 3)
      x[i] = std::bit_cast<float>(hard[static_cast<std::size_t>(i) % hard.size()]);
    Guarded<std::uint16_t> out(n, 1);
    table().float_to_bf16(x.data(), n, out.data());
    ASSERT_TRUE(out.untouched_around()) << n;
    for (std::int64_t i = 0; i < n; ++i) {
      if (std::isnan(x[i])) {
        ASSERT_TRUE(std::isnan(pq::bf16_to_float(out[i]))) << n;
      } else {
        ASSERT_EQ(out[i], pq::float_to_bf16(x[i])) << std::bit_cast<std::uint32_t>(x[i]);
      }
    }
  }
}

PQ_FOR_EVERY_TABLE(RowKernel);

}  // namespace
}  // namespace pq::kernels
