#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <random>
#include <vector>

#include "kernels/kernels.h"
#include "kernels/test_tables.h"

namespace pq::kernels {
namespace {

struct Case {
  std::int64_t rows;
  std::int64_t channels;
  std::int64_t columns;
  std::int64_t segment;
  int bits;
  int planes;
};

enum class Fill { random, extreme };

/// A product with operands of its own: random codes, or those that make the largest sums.
class Product {
 public:
  Product(const Case& shape, Fill fill, unsigned seed, bool asymmetric, bool with_up)
      : shape_(shape),
        panels_((shape.channels + 15) / 16),
        segments_((shape.columns + shape.segment - 1) / shape.segment),
        stride_(shape.columns + 64),
        weights_{make_weights(fill, seed), make_weights(fill, seed + 1)},
        codes_(static_cast<std::size_t>(shape.planes * shape.rows * stride_)),
        row_scale_(static_cast<std::size_t>(shape.rows * segments_)),
        row_zero_(row_scale_.size()),
        row_sum_(row_scale_.size()),
        scratch_(gemm_scratch_bytes(shape.columns)) {
    std::mt19937 random(seed + 2);
    const auto limits = shape.planes == 2 ? std::pair{-127, 127} : std::pair{-128, 127};
    std::uniform_int_distribution<int> code(limits.first, limits.second);
    for (std::size_t i = 0; i < codes_.size(); ++i) {
      codes_[i] = static_cast<std::int8_t>(fill == Fill::random ? code(random) : limits.first);
    }
    std::uniform_real_distribution<float> scale(0.001F, 0.1F);
    std::uniform_int_distribution<int> zero(-200, 200);
    for (std::int64_t row = 0; row < shape.rows; ++row) {
      for (std::int64_t segment = 0; segment < segments_; ++segment) {
        std::int32_t sum = 0;
        for (std::int64_t c = segment * shape.segment; c < std::min((segment + 1) * shape.segment, shape.columns);
             ++c) {
          sum += codes_[static_cast<std::size_t>(row * stride_ + c)];
          if (shape.planes == 2) sum += 256 * codes_[static_cast<std::size_t>((shape.rows + row) * stride_ + c)];
        }
        const auto at = static_cast<std::size_t>(row * segments_ + segment);
        row_sum_[at] = sum;
        row_zero_[at] = zero(random);
        row_scale_[at] = scale(random);
      }
    }
    gemm_.weights = weights_[0].view;
    gemm_.up = with_up ? &weights_[1].view : nullptr;
    gemm_.activations = {codes_.data(),        row_scale_.data(), asymmetric ? row_zero_.data() : nullptr,
                         row_sum_.data(),      shape.rows,        stride_,
                         shape.rows * stride_, shape.planes};
    gemm_.out_stride = shape.channels + 3;
  }
  Product(const Product&) = delete;
  Product& operator=(const Product&) = delete;

  std::vector<float> run(const KernelTable& table, Store store = Store::overwrite, std::int64_t first = 0,
                         std::int64_t last = -1) {
    std::vector<float> out(static_cast<std::size_t>(shape_.rows * gemm_.out_stride), 0.5F);
    gemm_.out = out.data();
    gemm_.store = store;
    table.int_gemm(gemm_, first, last < 0 ? panels_ : last, scratch_.data());
    return out;
  }
  void share_zero(std::int32_t zero) {
    gemm_.weights.zero = nullptr;
    gemm_.weights.common_zero = zero;
  }
  void fill_zeros(std::int32_t zero) {
    for (std::size_t i = 0; i < weights_[0].zero.size(); ++i) weights_[0].zero[i] = zero;
    gemm_.weights.zero = weights_[0].zero.data();
  }

 private:
  struct Weights {
    Weights(std::size_t bytes, std::size_t scales, std::size_t biases)
        : codes(bytes), scale(scales), zero(scales), sum(scales), bias(biases) {}
    Aligned<std::uint8_t> codes;
    Aligned<float> scale;
    Aligned<std::int32_t> zero;
    Aligned<std::int32_t> sum;
    Aligned<float> bias;
    IntWeights view{};
  };

  Weights make_weights(Fill fill, unsigned seed) const {
    const std::int64_t bytes = panel_bytes(shape_.columns, shape_.bits);
    const auto scales = static_cast<std::size_t>(panels_ * segments_ * 16);
    Weights weights(static_cast<std::size_t>(panels_ * bytes), scales, static_cast<std::size_t>(panels_ * 16));
    std::mt19937 random(seed);
    for (std::size_t i = 0; i < weights.codes.size(); ++i) {
      weights.codes[i] = fill == Fill::random ? static_cast<std::uint8_t>(random()) : 0xff;
    }
    std::uniform_real_distribution<float> scale(0.001F, 0.1F);
    for (std::size_t i = 0; i < scales; ++i) {
      weights.scale[i] = scale(random);
      weights.zero[i] = fill == Fill::random ? static_cast<std::int32_t>(random() % 256) : 0;
      weights.sum[i] = static_cast<std::int32_t>(random() % 20001) - 10000;
    }
    for (std::size_t i = 0; i < weights.bias.size(); ++i) weights.bias[i] = scale(random);
    weights.view = {weights.codes.data(),
                    weights.scale.data(),
                    weights.zero.data(),
                    0,
                    weights.sum.data(),
                    weights.bias.data(),
                    shape_.channels,
                    panels_,
                    bytes,
                    shape_.columns,
                    shape_.segment,
                    segments_,
                    shape_.bits};
    return weights;
  }

  Case shape_;
  std::int64_t panels_;
  std::int64_t segments_;
  std::int64_t stride_;
  std::array<Weights, 2> weights_;
  Aligned<std::int8_t> codes_;
  Aligned<float> row_scale_;
  Aligned<std::int32_t> row_zero_;
  Aligned<std::int32_t> row_sum_;
  Aligned<std::uint8_t> scratch_;
  IntGemm gemm_{};
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const int bits : {2, 3, 4, 8}) {
    for (const int planes : {1, 2}) {
      for (const std::int64_t rows : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 17}) {
        all.push_back({rows, 70, 96, 96, bits, planes});
        all.push_back({rows, 33, 160, 64, bits, planes});
      }
      for (const std::int64_t rows : {32, 33, 47, 64, 70}) {
        all.push_back({rows, 70, 192, 192, bits, planes});
        all.push_back({rows, 128, 192, 64, bits, planes});
      }
      for (const std::int64_t channels : {1, 15, 16, 17, 31, 48, 64, 65, 80}) {
        all.push_back({1, channels, 32, 32, bits, planes});
        all.push_back({13, channels, 128, 32, bits, planes});
      }
    }
  }
  return all;
}

std::string describe(const KernelTable& table, const Case& shape) {
  return std::string(table.name) + ": rows " + std::to_string(shape.rows) + ", channels " +
         std::to_string(shape.channels) + ", columns " + std::to_string(shape.columns) + ", segment " +
         std::to_string(shape.segment) + ", bits " + std::to_string(shape.bits) + ", planes " +
         std::to_string(shape.planes);
}

// Sums are exact, and scales are applied by the same fused operations in the same order: results are equal bit for bit.
TEST(IntGemm, EqualsTheScalarDefinitionBitForBit) {
  unsigned seed = 1;
  for (const Case& shape : cases()) {
    for (const bool asymmetric : {false, true}) {
      Product product(shape, Fill::random, seed++, asymmetric, false);
      for (const Store store : {Store::overwrite, Store::add}) {
        const std::vector<float> expected = product.run(definition(), store);
        for (const KernelTable* table : vector_tables()) {
          EXPECT_EQ(product.run(*table, store), expected) << describe(*table, shape);
        }
      }
    }
  }
}

TEST(IntGemm, LargestSumsDoNotSaturate) {
  for (const Case& shape : {Case{1, 32, 28672, 28672, 8, 1}, Case{4, 16, 28672, 28672, 4, 1},
                            Case{13, 80, 4096, 4096, 8, 1}, Case{40, 80, 8192, 8192, 8, 1},
                            Case{40, 80, 128, 128, 8, 2}, Case{2, 16, 128, 128, 8, 2}, Case{9, 64, 128, 128, 8, 2}}) {
    Product product(shape, Fill::extreme, 7, false, false);
    const std::vector<float> expected = product.run(definition());
    for (const KernelTable* table : vector_tables())
      EXPECT_EQ(product.run(*table), expected) << describe(*table, shape);
  }
}

TEST(IntGemm, ACommonZeroPointIsOneForEveryChannel) {
  for (const std::int64_t rows : {1, 9, 40}) {
    Product product({rows, 70, 128, 64, 4, 1}, Fill::random, 5, true, false);
    product.share_zero(8);
    const std::vector<float> expected = product.run(definition());
    product.fill_zeros(8);
    EXPECT_EQ(product.run(definition()), expected);
    product.share_zero(8);
    for (const KernelTable* table : vector_tables()) EXPECT_EQ(product.run(*table), expected) << table->name;
  }
}

TEST(IntGemm, WritesOnlyItsPanels) {
  for (const std::int64_t rows : {1, 6, 20}) {
    Product product({rows, 100, 64, 64, 4, 1}, Fill::random, 3, false, false);
    for (const KernelTable* table : kernel_tables()) {
      if (!supported(*table)) continue;
      const std::vector<float> whole = product.run(*table);
      const std::vector<float> part = product.run(*table, Store::overwrite, 1, 4);
      for (std::size_t i = 0; i < whole.size(); ++i) {
        const std::size_t column = i % 103;
        EXPECT_EQ(part[i], column >= 16 && column < 64 ? whole[i] : 0.5F) << table->name << " at " << i;
        if (column >= 100) {
          EXPECT_EQ(whole[i], 0.5F);
        }
      }
    }
  }
}

// silu differs by the exponential alone: its relative error is below 2e-7, as is each of the four roundings after it.
TEST(IntGemm, GatedProductsAreWithinTheBoundOfTheExponential) {
  for (const std::int64_t rows : {1, 3, 8, 9, 25, 40}) {
    const Case shape{rows, 70, 128, 64, 4, 1};
    Product product(shape, Fill::random, static_cast<unsigned>(rows), true, true);
    const std::vector<float> expected = product.run(definition());
    for (const KernelTable* table : vector_tables()) {
      const std::vector<float> actual = product.run(*table);
      for (std::size_t i = 0; i < actual.size(); ++i) {
        EXPECT_NEAR(actual[i], expected[i], 1e-6F * std::abs(expected[i]) + 1e-30F) << describe(*table, shape);
      }
    }
  }
}

}  // namespace
}  // namespace pq::kernels
