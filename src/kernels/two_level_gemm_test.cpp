#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "kernels/scalar/stored_code.h"
#include "kernels/test_tables.h"
#include "numerics/two_level.h"

namespace pq::kernels {
namespace {

struct Case {
  std::int64_t rows;
  std::int64_t channels;
  std::int64_t columns;
  std::int64_t segment;
  std::int64_t group;
  int planes;
};

/// Two-level weights, and the 8-bit weights that they are unpacked to, times the same rows.
class TwoLevelProduct {
 public:
  TwoLevelProduct(const Case& shape, unsigned seed)
      : shape_(shape),
        panels_((shape.channels + 15) / 16),
        segments_((shape.columns + shape.segment - 1) / shape.segment),
        groups_((shape.columns + shape.group - 1) / shape.group),
        group_bytes_((groups_ * 16 + 63) / 64 * 64),
        packed_(panels_ * (group_bytes_ + panel_bytes(shape.columns, 4))),
        plain_(panels_ * panel_bytes(shape.columns, 8)),
        weight_scale_(panels_ * segments_ * 16),
        weight_sum_(panels_ * segments_ * 16),
        rows_(shape.planes * shape.rows * shape.columns),
        row_scale_(shape.rows * segments_),
        row_zero_(shape.rows * segments_),
        row_sum_(shape.rows * segments_),
        scratch_(static_cast<std::int64_t>(gemm_scratch_bytes(shape.columns))) {
    std::mt19937 random(seed);
    const std::int64_t packed_panel = panel_bytes(shape.columns, 4);
    const std::int64_t first_group = panels_ * packed_panel;
    two_level_ = {packed_.data(),
                  weight_scale_.data(),
                  nullptr,
                  128,
                  weight_sum_.data(),
                  nullptr,
                  shape.channels,
                  panels_,
                  packed_panel,
                  shape.columns,
                  shape.segment,
                  segments_,
                  4,
                  packed_.data() + first_group,
                  shape.group,
                  group_bytes_};
    for (std::int64_t i = 0; i < packed_.size(); ++i) packed_[i] = static_cast<std::uint8_t>(random());
    for (std::int64_t panel = 0; panel < panels_; ++panel) {
      for (std::int64_t i = 0; i < groups_ * 16; ++i)
        packed_[first_group + panel * group_bytes_ + i] = group_byte(random());
    }
    eight_bits_ = two_level_;
    eight_bits_.codes = plain_.data();
    eight_bits_.panel_bytes = panel_bytes(shape.columns, 8);
    eight_bits_.bits = 8;
    eight_bits_.group_scales = nullptr;
    unpack();
    for (std::int64_t i = 0; i < weight_scale_.size(); ++i) {
      weight_scale_[i] = static_cast<float>(random() % 1000 + 1) * 1e-4F;
      weight_sum_[i] = static_cast<std::int32_t>(random() % 20001) - 10000;
    }
    const int lowest = shape.planes == 2 ? -127 : -128;
    for (std::int64_t i = 0; i < rows_.size(); ++i) {
      rows_[i] = static_cast<std::int8_t>(lowest + static_cast<int>(random() % static_cast<unsigned>(128 - lowest)));
    }
    for (std::int64_t i = 0; i < row_scale_.size(); ++i) {
      row_scale_[i] = static_cast<float>(random() % 1000 + 1) * 1e-3F;
      row_zero_[i] = static_cast<std::int32_t>(random() % 401) - 200;
    }
    for (std::int64_t i = 0; i < rows_.size(); ++i) {
      const std::int64_t row = i / shape.columns % shape.rows;
      const std::int32_t weight = i / shape.columns < shape.rows ? 1 : 256;
      row_sum_[row * segments_ + i % shape.columns / shape.segment] += weight * rows_[i];
    }
  }
  TwoLevelProduct(const TwoLevelProduct&) = delete;
  TwoLevelProduct& operator=(const TwoLevelProduct&) = delete;

  std::vector<float> two_level(const KernelTable& table) { return run(table, two_level_); }
  std::vector<float> eight_bits() { return run(definition(), eight_bits_); }
  void swap_nibbles_of(std::int64_t group) {
    for (std::int64_t i = 0; i < 16; ++i) {
      std::uint8_t& byte = packed_[group * 16 + i];
      byte = static_cast<std::uint8_t>(byte << 4 | byte >> 4);
    }
  }

 private:
  static std::uint8_t group_byte(unsigned number) {
    const auto scale = static_cast<std::int32_t>(1 + number % two_level::largest_group_scale);
    const QuantRange zero = two_level::zero_point_range(scale);
    const auto width = static_cast<unsigned>(zero.high - zero.low + 1);
    return static_cast<std::uint8_t>((scale - 1) | (zero.low + static_cast<std::int32_t>(number / 16 % width)) << 4);
  }

  void unpack() {
    for (std::int64_t channel = 0; channel < panels_ * 16; ++channel) {
      for (std::int64_t column = 0; column < shape_.columns; ++column) {
        const std::uint8_t* panel = two_level_.codes + channel / 16 * two_level_.panel_bytes;
        const std::int32_t code = scalar::stored_code(panel, 4, column, channel % 16);
        const std::int32_t group =
            two_level_.group_scales[channel / 16 * group_bytes_ + column / shape_.group * 16 + channel % 16];
        const std::int32_t weight = (code - group / 16) * (group % 16 + 1);
        ASSERT_GE(weight, -128);
        ASSERT_LE(weight, 127);
        plain_[channel / 16 * eight_bits_.panel_bytes + column / 4 * 64 + channel % 16 * 4 + column % 4] =
            static_cast<std::uint8_t>(weight + 128);
      }
    }
  }

  std::vector<float> run(const KernelTable& table, const IntWeights& weights) {
    std::vector<float> out(static_cast<std::size_t>(shape_.rows * shape_.channels), 0.5F);
    const IntGemm gemm{.weights = weights,
                       .up = nullptr,
                       .activations = {rows_.data(), row_scale_.data(), row_zero_.data(), row_sum_.data(), shape_.rows,
                                       shape_.columns, shape_.rows * shape_.columns, shape_.planes},
                       .out = out.data(),
                       .out_stride = shape_.channels,
                       .store = Store::overwrite};
    table.int_gemm(gemm, 0, panels_, scratch_.data());
    return out;
  }

  Case shape_;
  std::int64_t panels_;
  std::int64_t segments_;
  std::int64_t groups_;
  std::int64_t group_bytes_;
  Guarded<std::uint8_t> packed_;
  Guarded<std::uint8_t> plain_;
  Guarded<float> weight_scale_;
  Guarded<std::int32_t> weight_sum_;
  Guarded<std::int8_t> rows_;
  Guarded<float> row_scale_;
  Guarded<std::int32_t> row_zero_;
  Guarded<std::int32_t> row_sum_;
  Guarded<std::uint8_t> scratch_;
  IntWeights two_level_{};
  IntWeights eight_bits_{};
};

using TwoLevelGemm = TableTest;

TEST_P(TwoLevelGemm, EqualsTheEightBitWeightsThatTheCodesStandForBitForBit) {
  unsigned seed = 1;
  for (const std::int64_t rows : {1, 2, 3, 4, 5, 7, 8, 9, 11, 13, 33, 47}) {
    for (const std::int64_t channels : {1, 16, 33, 70, 128}) {
      for (const std::int64_t group : {32, 64, 128}) {
        for (const auto& [columns, segment] : std::vector<std::pair<std::int64_t, std::int64_t>>{
                 {32, 32}, {160, 160}, {192, 192}, {256, 128}, {288, 64}}) {
          const Case shape{rows, channels, columns, segment, group, segment == 128 ? 2 : 1};
          TwoLevelProduct product(shape, seed++);
          ASSERT_EQ(product.two_level(table()), product.eight_bits())
              << "rows " << rows << ", channels " << channels << ", columns " << columns << ", group " << group;
        }
      }
    }
  }
}

TEST_P(TwoLevelGemm, AGroupsScaleAndZeroPointAreItsOwn) {
  for (const std::int64_t rows : {1, 40}) {
    TwoLevelProduct product({rows, 64, 256, 256, 64, 1}, 3);
    product.swap_nibbles_of(2);
    EXPECT_NE(product.two_level(table()), product.eight_bits()) << rows;
  }
}

PQ_FOR_EVERY_TABLE(TwoLevelGemm);

}  // namespace
}  // namespace pq::kernels
