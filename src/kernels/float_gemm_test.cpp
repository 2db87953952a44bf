#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <random>
#include <vector>

#include "base/half.h"
#include "kernels/kernels.h"
#include "kernels/test_tables.h"
#include "numerics/activation.h"

namespace pq::kernels {
namespace {

struct FloatProduct {
  FloatProduct(std::int64_t row_count, std::int64_t channels, std::int64_t columns, FloatFormat format, bool with_up)
      : values{Aligned<std::uint8_t>(bytes(channels, columns, format)),
               Aligned<std::uint8_t>(bytes(channels, columns, format))},
        bias(static_cast<std::size_t>((channels + 15) / 16 * 16)),
        rows(static_cast<std::size_t>(row_count * (columns + 5))),
        scratch(gemm_scratch_bytes(columns)) {
    std::mt19937 random(static_cast<unsigned>(row_count * 1000 + channels + columns));
    std::uniform_real_distribution<float> number(-1, 1);
    for (auto& v : values) {
      if (format == FloatFormat::f32) {
        auto* floats = reinterpret_cast<float*>(v.data());
        for (std::size_t i = 0; i < v.size() / 4; ++i) floats[i] = number(random);
      } else {
        // Sign, an exponent around 1, any fraction.
        auto* halves = reinterpret_cast<std::uint16_t*>(v.data());
        for (std::size_t i = 0; i < v.size() / 2; ++i) {
          const auto bits = static_cast<std::uint16_t>(random());
          halves[i] = static_cast<std::uint16_t>(format == FloatFormat::f16 ? (bits & 0x83ff) | 0x3800
                                                                            : (bits & 0x807f) | 0x3f00);
        }
      }
    }
    for (std::size_t i = 0; i < bias.size(); ++i) bias[i] = number(random);
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = number(random);
    const std::int64_t panels = (channels + 15) / 16;
    gemm.weights = {values[0].data(), bias.data(), channels, panels, columns, format};
    up = {values[1].data(), bias.data(), channels, panels, columns, format};
    gemm.up = with_up ? &up : nullptr;
    gemm.activations = rows.data();
    gemm.rows = row_count;
    gemm.row_stride = columns + 5;
    gemm.out_stride = channels + 1;
  }
  static std::size_t bytes(std::int64_t channels, std::int64_t columns, FloatFormat format) {
    return static_cast<std::size_t>((channels + 15) / 16 * 16 * columns * bytes_of(format));
  }
  std::vector<float> run(const KernelTable& table, Store store) {
    std::vector<float> out(static_cast<std::size_t>(gemm.rows * gemm.out_stride), 0.25F);
    gemm.out = out.data();
    gemm.store = store;
    table.float_gemm(gemm, 0, gemm.weights.panels, scratch.data());
    return out;
  }
  Aligned<std::uint8_t> values[2];
  Aligned<float> bias;
  Aligned<float> rows;
  Aligned<std::uint8_t> scratch;
  FloatWeights up{};
  FloatGemm gemm{};
};

// |x| <= 1 and |w| < 2: each of n fused additions rounds a sum of at most 2 n + 1; a sum in another order differs by at
// most 2 n (2 n + 1) 2^-24. A gated product is as steep as its larger factor, at most 2 n + 1.
TEST(FloatGemm, IsWithinTheBoundOfReordering) {
  for (const FloatFormat format : {FloatFormat::f32, FloatFormat::f16, FloatFormat::bf16}) {
    for (const std::int64_t rows : {1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 19}) {
      for (const std::int64_t channels : {1, 16, 37, 64, 70}) {
        for (const std::int64_t columns : {2, 6, 64, 130}) {
          for (const bool with_up : {false, true}) {
            FloatProduct product(rows, channels, columns, format, with_up);
            const std::vector<float> expected = product.run(definition(), Store::add);
            const auto n = static_cast<float>(columns);
            const float bound = 2 * n * (2 * n + 1) * 6e-8F * (with_up ? 2 * (2 * n + 1) : 1);
            for (const KernelTable* table : vector_tables()) {
              const std::vector<float> actual = product.run(*table, Store::add);
              for (std::size_t i = 0; i < actual.size(); ++i) {
                ASSERT_NEAR(actual[i], expected[i], bound)
                    << table->name << ": rows " << rows << ", channels " << channels << ", columns " << columns;
              }
            }
          }
        }
      }
    }
  }
}

// The same bound with activations that bf16 holds exactly: products of two bf16 are exact in float32, sums are not.
TEST(FloatGemm, RoundedActivationsGiveTheSame) {
  for (const std::int64_t rows : {9, 13, 32, 50, 64, 71}) {
    for (const std::int64_t channels : {16, 37, 64, 140}) {
      for (const std::int64_t columns : {2, 64, 160, 192}) {
        for (const bool with_up : {false, true}) {
          FloatProduct product(rows, channels, columns, FloatFormat::bf16, with_up);
          std::vector<std::uint16_t> rounded(product.rows.size() + 64);
          definition().float_to_bf16(product.rows.data(), static_cast<std::int64_t>(product.rows.size()),
                                     rounded.data());
          for (std::size_t i = 0; i < product.rows.size(); ++i) product.rows[i] = bf16_to_float(rounded[i]);
          const std::vector<float> expected = product.run(definition(), Store::add);
          product.gemm.rounded = rounded.data();
          product.gemm.rounded_stride = product.gemm.row_stride;
          const auto n = static_cast<float>(columns);
          const float bound = 2 * n * (2 * n + 1) * 6e-8F * (with_up ? 2 * (2 * n + 1) : 1);
          for (const KernelTable* table : vector_tables()) {
            std::vector<std::uint16_t> again(rounded.size());
            table->float_to_bf16(product.rows.data(), static_cast<std::int64_t>(product.rows.size()), again.data());
            EXPECT_EQ(again, rounded);
            const std::vector<float> actual = product.run(*table, Store::add);
            for (std::size_t i = 0; i < actual.size(); ++i) {
              ASSERT_NEAR(actual[i], expected[i], bound)
                  << table->name << ": rows " << rows << ", channels " << channels << ", columns " << columns;
            }
          }
        }
      }
    }
  }
}

/// Rows of `columns` values as tiles of planes.
std::vector<std::uint16_t> tiles_of_planes(const KernelTable& table, const float* rows, std::int64_t count,
                                           std::int64_t stride, std::int64_t columns) {
  const std::int64_t blocks = (count + plane_tile_rows - 1) / plane_tile_rows;
  std::vector<std::uint16_t> tiles(static_cast<std::size_t>(blocks * plane_tile_rows * columns * float_planes), 0x7fff);
  for (std::int64_t row = 0; row < count; ++row) {
    Guarded<std::uint16_t> own(columns * plane_tile_rows * float_planes);
    table.split_bf16(rows + row * stride, columns, own.data());
    EXPECT_TRUE(own.untouched_around());
    for (std::int64_t piece = 0; piece < columns / 32 * float_planes; ++piece) {
      std::copy_n(own.data() + piece * plane_tile_values, 32,
                  tiles.data() + plane_tile_offset(row, columns) + piece * plane_tile_values);
    }
  }
  return tiles;
}

TEST(FloatGemm, PlanesHoldEveryDigit) {
  std::vector<float> x = activations_like(96, 3, 5.0F);
  const std::array<float, 7> special{0.0F, -0.0F, 1.0F, -3e38F, 1e-30F, 0x1.fffffep+0F, 0x1.000002p-20F};
  std::copy(special.begin(), special.end(), x.begin() + 40);
  for (const KernelTable* table : vector_tables()) {
    if (table->split_bf16 == nullptr) continue;
    const std::vector<std::uint16_t> tiles = tiles_of_planes(*table, x.data(), 1, 0, 96);
    for (std::int64_t i = 0; i < 96; ++i) {
      const auto plane = [&](std::int64_t p) {
        return bf16_to_float(tiles[static_cast<std::size_t>((i / 32 * float_planes + p) * plane_tile_values + i % 32)]);
      };
      ASSERT_EQ(plane(2) + plane(1) + plane(0), x[static_cast<std::size_t>(i)]) << table->name << " " << i;
    }
  }
}

// The bound of reordering, and what planes leave out: three products below 2^-23 of |x w| each. Two planes instead of
// three are not enough.
TEST(FloatGemm, ExactPlanesGiveAFloat32Product) {
  for (const KernelTable* table : vector_tables()) {
    if (table->split_bf16 == nullptr) continue;
    for (const FloatFormat format : {FloatFormat::f16, FloatFormat::bf16}) {
      for (const std::int64_t rows : {31, 32, 50, 64, 71}) {
        for (const std::int64_t channels : {16, 37, 64, 140}) {
          for (const std::int64_t columns : {32, 64, 160, 192}) {
            for (const bool with_up : {false, true}) {
              FloatProduct product(rows, channels, columns, format, with_up);
              const std::vector<float> expected = product.run(definition(), Store::add);
              const std::vector<std::uint16_t> tiles =
                  tiles_of_planes(*table, product.rows.data(), rows, product.gemm.row_stride, columns);
              Aligned<std::uint16_t> planes(tiles.size());
              std::copy(tiles.begin(), tiles.end(), planes.data());
              product.gemm.rounded = planes.data();
              product.gemm.planes = float_planes;
              const auto n = static_cast<float>(columns);
              const float bound =
                  (2 * n * (2 * n + 1) * 6e-8F + 2 * n * 3 * 0x1p-23F) * (with_up ? 2 * (2 * n + 1) : 1);
              const std::vector<float> actual = product.run(*table, Store::add);
              for (std::size_t i = 0; i < actual.size(); ++i) {
                ASSERT_NEAR(actual[i], expected[i], bound)
                    << table->name << ": rows " << rows << ", channels " << channels << ", columns " << columns;
              }
              // Panel by panel the same digits as all at once: results do not depend on how threads share them.
              std::vector<float> panelwise(actual.size(), 0.25F);
              product.gemm.out = panelwise.data();
              for (std::int64_t panel = 0; panel < product.gemm.weights.panels; ++panel) {
                table->float_gemm(product.gemm, panel, panel + 1, product.scratch.data());
              }
              ASSERT_EQ(panelwise, actual);
            }
          }
        }
      }
    }
  }
}

TEST(FloatGemm, TwoPlanesAreNoFloat32Product) {
  constexpr std::int64_t columns = 192;
  for (const KernelTable* table : vector_tables()) {
    if (table->split_bf16 == nullptr) continue;
    FloatProduct product(32, 64, columns, FloatFormat::f16, false);
    // All of one sign, so that what is left out adds up.
    for (std::size_t i = 0; i < product.rows.size(); ++i) product.rows[i] = std::fabs(product.rows[i]);
    auto* halves = reinterpret_cast<std::uint16_t*>(product.values[0].data());
    for (std::size_t i = 0; i < product.values[0].size() / 2; ++i) halves[i] &= 0x7fff;
    product.gemm.planes = float_planes;
    const auto largest_error = [&](int dropped) {
      const std::vector<std::uint16_t> tiles =
          tiles_of_planes(*table, product.rows.data(), 32, product.gemm.row_stride, columns);
      Aligned<std::uint16_t> planes(tiles.size());
      for (std::size_t i = 0; i < tiles.size(); ++i) {
        const auto plane = static_cast<int>(i / plane_tile_values % float_planes);
        planes.data()[i] = plane == dropped ? std::uint16_t{0} : tiles[i];
      }
      product.gemm.rounded = planes.data();
      const std::vector<float> actual = product.run(*table, Store::overwrite);
      double worst = 0;
      for (std::int64_t row = 0; row < 32; ++row) {
        for (std::int64_t channel = 0; channel < 64; ++channel) {
          double sum = product.bias[static_cast<std::size_t>(channel)];
          for (std::int64_t k = 0; k < columns; ++k) {
            const std::size_t at = static_cast<std::size_t>((channel / 16 * columns + k) * 16 + channel % 16);
            sum += static_cast<double>(f16_to_float(halves[at])) *
                   static_cast<double>(product.rows[static_cast<std::size_t>(row * product.gemm.row_stride + k)]);
          }
          const double got = actual[static_cast<std::size_t>(row * product.gemm.out_stride + channel)];
          worst = std::max(worst, std::fabs(got - sum));
        }
      }
      return worst;
    };
    const double whole = largest_error(-1);
    EXPECT_LT(whole, 192 * 2 * 0x1p-23);
    EXPECT_GT(largest_error(2), 4 * whole);
  }
}

// One row (1, 0) over weights (gate, 0): both products are exact, so that what is left is silu(gate) * up.
TEST(FloatGemm, GatesEveryNumber) {
  constexpr double unit = 0x1p-24;
  std::vector<float> gates = activations_like(3000, 5, 10.0F);
  for (float g = -100; g <= 100; g += 0.37F) gates.push_back(g);
  gates.insert(gates.end(), {0.0F, -0.0F, 1e30F, -1e30F, 3e38F, -3e38F, 1e-40F, -1e-40F, 87.5F, -87.5F});
  const auto channels = static_cast<std::int64_t>(gates.size());
  const std::vector<float> ups = activations_like(channels, 6);
  FloatProduct product(1, channels, 2, FloatFormat::f32, true);
  for (int side = 0; side < 2; ++side) {
    auto* weights = reinterpret_cast<float*>(product.values[side].data());
    std::fill_n(weights, product.values[side].size() / sizeof(float), 0.0F);
    for (std::size_t i = 0; i < gates.size(); ++i) weights[i / 16 * 32 + i % 16] = (side == 0 ? gates : ups)[i];
  }
  std::fill_n(product.bias.data(), product.bias.size(), 0.0F);
  product.rows[0] = 1;
  product.rows[1] = 0;
  for (const KernelTable* table : kernel_tables()) {
    if (!supported(*table)) continue;
    const std::vector<float> out = product.run(*table, Store::overwrite);
    for (std::size_t i = 0; i < gates.size(); ++i) {
      const auto g = static_cast<double>(gates[i]);
      const double wanted = silu(g) * static_cast<double>(ups[i]);
      // exp within 2 ulp, four operations; and what is below 10^-35 may be anything as small.
      const double allowed =
          10 * unit * std::fabs(wanted) + 1e-35 * std::max(1.0, std::fabs(static_cast<double>(ups[i])));
      ASSERT_NEAR(static_cast<double>(out[i]), wanted, allowed) << table->name << ": " << gates[i];
    }
    EXPECT_EQ(out[gates.size()], 0.25F) << table->name;
  }
}

}  // namespace
}  // namespace pq::kernels
