#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "base/half.h"
#include "kernels/kernels.h"
#include "kernels/test_tables.h"

namespace pq::kernels {
namespace {

struct Case {
  KvFormat format;
  bool dynamic;
  std::int64_t head_dim;
  std::int64_t group;
  std::int64_t group_heads;
  std::int64_t prefix;
  std::int64_t first;
  std::int64_t queries;
  std::int64_t window;
};

/// A cache of random codes, queries, and what a kernel makes of them.
class AttentionCase {
 public:
  explicit AttentionCase(const Case& shape) : shape_(shape) {
    const std::int64_t padded = (shape.head_dim + 31) / 32 * 32;
    const std::int64_t tokens = (shape.first + shape.queries + 31) / 32 * 32;
    const std::int64_t group = std::min(shape.group, padded);
    layout_ = {shape.format, shape.dynamic, shape.head_dim, padded, group, (shape.head_dim + group - 1) / group};
    std::mt19937 random(static_cast<unsigned>(shape.head_dim * 31 + shape.first));
    std::uniform_real_distribution<float> number(-1, 1);
    const auto fill = [&](std::vector<float>& values, std::int64_t count) {
      values.resize(static_cast<std::size_t>(count));
      for (float& value : values) value = number(random);
    };
    const std::int64_t element = shape.format == KvFormat::f32 ? 4 : 2;
    const bool integer = shape.format == KvFormat::int4 || shape.format == KvFormat::int8;
    const std::int64_t bytes =
        integer ? tokens * padded * (shape.format == KvFormat::int4 ? 1 : 2) / 2 : tokens * padded * element;
    for (auto* side : {&key_, &value_}) {
      side->resize(static_cast<std::size_t>(bytes) + 64);
      if (integer) {
        for (auto& byte : *side) byte = static_cast<std::uint8_t>(random());
      } else if (shape.format == KvFormat::f16) {
        auto* halves = reinterpret_cast<std::uint16_t*>(side->data());
        for (std::int64_t i = 0; i < bytes / 2; ++i) halves[i] = float_to_f16(number(random));
      } else {
        auto* floats = reinterpret_cast<float*>(side->data());
        for (std::int64_t i = 0; i < bytes / 4; ++i) floats[i] = number(random);
      }
    }
    // Padding columns of K hold any code; the query is 0 there.
    const std::int64_t scales = shape.dynamic ? tokens * layout_.groups : 1;
    const int top = shape.format == KvFormat::int4 ? 15 : 255;
    for (auto* side : {&key_scale_, &value_scale_}) {
      fill(*side, scales);
      for (float& scale : *side) scale = (1.5F + scale) / static_cast<float>(top);
    }
    for (auto* side : {&key_zero_, &value_zero_}) {
      side->resize(static_cast<std::size_t>(scales));
      for (auto& zero : *side) zero = static_cast<std::int32_t>(random() % static_cast<unsigned>(top));
    }
    fill(prefix_key_, shape.prefix * padded);
    fill(prefix_value_, shape.prefix * padded);
    const std::int64_t width = shape.group_heads * shape.head_dim;
    fill(query_, shape.queries * (width + 7));
    attention_.layout = layout_;
    attention_.head = {prefix_key_.data(), prefix_value_.data(), key_.data(),         value_.data(),
                       key_scale_.data(),  key_zero_.data(),     value_scale_.data(), value_zero_.data()};
    attention_.prefix = shape.prefix;
    attention_.query = query_.data();
    attention_.query_stride = width + 7;
    attention_.out_stride = width + 7;
    attention_.queries = shape.queries;
    attention_.group_heads = shape.group_heads;
    attention_.first = shape.first;
    attention_.window = shape.window;
    attention_.scale = 1.0F / std::sqrt(static_cast<float>(shape.head_dim));
  }
  AttentionCase(const AttentionCase&) = delete;
  AttentionCase& operator=(const AttentionCase&) = delete;

  std::vector<float> run(const KernelTable& table) {
    std::vector<float> out(query_.size(), 7.0F);
    attention_.out = out.data();
    std::vector<std::uint8_t> scratch(attention_scratch_bytes(layout_, shape_.queries * shape_.group_heads) + 64);
    const auto address = reinterpret_cast<std::uintptr_t>(scratch.data());
    table.attend(attention_, scratch.data() + (64 - address % 64) % 64);
    return out;
  }
  Attention& attention() { return attention_; }

 private:
  Case shape_;
  KvLayout layout_{};
  std::vector<std::uint8_t> key_, value_;
  std::vector<float> key_scale_, value_scale_, prefix_key_, prefix_value_, query_;
  std::vector<std::int32_t> key_zero_, value_zero_;
  Attention attention_{};
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const KvFormat format : {KvFormat::int4, KvFormat::int8, KvFormat::f16, KvFormat::f32}) {
    const bool integer = format == KvFormat::int4 || format == KvFormat::int8;
    for (const bool dynamic : {false, true}) {
      if (dynamic && !integer) continue;
      for (const std::int64_t dim : {16, 32, 64, 80, 128}) {
        all.push_back({format, dynamic, dim, 128, 4, 3, 0, 1, 0});
        all.push_back({format, dynamic, dim, 128, 3, 0, 0, 37, 0});
        all.push_back({format, dynamic, dim, 32, 1, 2, 200, 1, 0});
        all.push_back({format, dynamic, dim, 32, 4, 1, 126, 12, 0});
      }
      all.push_back({format, dynamic, 64, 128, 2, 3, 300, 5, 40});
      all.push_back({format, dynamic, 64, 128, 8, 130, 17, 20, 9});
      all.push_back({format, dynamic, 64, 128, 1, 0, 1000, 1, 0});
    }
  }
  return all;
}

// |q| <= 1 and |k|, |v| < 2.6: a score is off by at most d * 2.6 * 2^-16 (rounding of Q) and as much again for sums in
// float32, times scale; the weights of a softmax move by that relatively, twice; V's codes add 2^-16 of the tile's
// largest weight each.
float bound_of(const Case& shape) {
  const bool integer = shape.format == KvFormat::int4 || shape.format == KvFormat::int8;
  const auto dim = static_cast<float>(shape.head_dim);
  const float score = dim * 2.6F * (integer ? 1.6e-5F : 6e-8F) * 2 / std::sqrt(dim);
  const float keys = static_cast<float>(std::min<std::int64_t>(shape.prefix + shape.first + shape.queries, 128));
  return 2.6F * (2 * score + (integer ? keys * 1.6e-5F : 1e-6F) + 2e-6F);
}

TEST(Attention, IsWithinTheBoundOfItsSixteenBitCodes) {
  for (const Case& shape : cases()) {
    AttentionCase attention(shape);
    const std::vector<float> expected = attention.run(definition());
    const float bound = bound_of(shape);
    for (const KernelTable* table : kernel_tables()) {
      if (!supported(*table)) continue;
      const std::vector<float> actual = attention.run(*table);
      float worst = 0;
      for (std::size_t i = 0; i < actual.size(); ++i) worst = std::max(worst, std::abs(actual[i] - expected[i]));
      EXPECT_LE(worst, bound) << table->name << ": format " << static_cast<int>(shape.format) << " dynamic "
                              << shape.dynamic << " dim " << shape.head_dim << " heads " << shape.group_heads
                              << " first " << shape.first << " queries " << shape.queries << " window " << shape.window;
    }
  }
}

// The bound is tight enough to see one key too many or too few, and a zero point that is off by one.
TEST(Attention, BoundCatchesAKeyTooMany) {
  const Case shape{KvFormat::int4, false, 64, 128, 4, 3, 60, 1, 0};
  AttentionCase attention(shape);
  const std::vector<float> expected = attention.run(definition());
  attention.attention().first = 61;
  for (const KernelTable* table : kernel_tables()) {
    if (!supported(*table)) continue;
    const std::vector<float> actual = attention.run(*table);
    float worst = 0;
    for (std::size_t i = 0; i < actual.size(); ++i) worst = std::max(worst, std::abs(actual[i] - expected[i]));
    EXPECT_GT(worst, bound_of(shape)) << table->name;
  }
}

// Two tokens with scores 0 and x, whose values are the first and the second dimension: out[1] / out[0] is e^x.
TEST(Attention, ExponentialsAreWithinTheirBound) {
  constexpr double unit = 0x1p-24;
  constexpr std::size_t dim = 16;
  constexpr std::size_t padded = 32;
  std::vector<float> key(dim * 32 + 16);  // [head_dim][16]
  std::vector<float> value(padded * 32);
  value[0] = 1;
  value[padded + 1] = 1;
  std::vector<float> query(dim);
  query[0] = 1;
  Attention attention{};
  attention.layout = {KvFormat::f32, false, dim, padded, padded, 1};
  attention.head.key = reinterpret_cast<const std::uint8_t*>(key.data());
  attention.head.value = reinterpret_cast<const std::uint8_t*>(value.data());
  attention.query = query.data();
  attention.query_stride = dim;
  attention.out_stride = dim;
  attention.queries = 1;
  attention.group_heads = 1;
  attention.first = 1;
  attention.scale = 1;
  std::vector<std::uint8_t> scratch(attention_scratch_bytes(attention.layout, 1) + 64);
  const auto address = reinterpret_cast<std::uintptr_t>(scratch.data());
  for (const KernelTable* table : kernel_tables()) {
    if (!supported(*table)) continue;
    for (float x = 0; x > -80; x -= 0.0371F) {
      key[1] = x;
      std::vector<float> out(dim);
      attention.out = out.data();
      table->attend(attention, scratch.data() + (64 - address % 64) % 64);
      const auto distance = std::fabs(static_cast<double>(x));
      // The polynomial; the sum, two divisions, and the rounding of x to a power of two.
      ASSERT_NEAR(static_cast<double>(out[1]) / static_cast<double>(out[0]), std::exp(static_cast<double>(x)),
                  (3.5e-6 + (8 + 3 * distance) * unit) * std::exp(static_cast<double>(x)))
          << table->name << ": " << x;
    }
  }
}

}  // namespace
}  // namespace pq::kernels
