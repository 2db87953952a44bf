#include "exchange/block_encoding.h"

#include <gmock/gmock.h>

#include <functional>
#include <optional>

#include "exchange/export_for_test.h"
#include "io/ggml_blocks.h"
#include "model/spec_for_test.h"
#include "numerics/packing.h"

namespace pq::exchange {
namespace {

using ::testing::HasSubstr;
using testing::message_of;
using testing::recipe_with;

constexpr LinearShape shape{8, 128, false};

/// A random layer of this format, with 16-bit scales.
QuantizedLinear random_linear(const QuantizerFormat& format, std::uint64_t seed = 3) {
  Random random(seed, "linear");
  QuantizedLinear linear;
  linear.codes.resize(static_cast<std::size_t>(shape.out_features * packed_row_bytes(shape.in_features, format.bits)));
  io::testing::fill(random, linear.codes);
  const auto count = static_cast<std::size_t>(shape.out_features * format.groups(shape.in_features));
  const ScaleGrid grid = scale_grid(ScaleType::f16, format.bits, format.symmetric);
  for (std::size_t i = 0; i < count; ++i) {
    linear.scales.push_back(nearest_scale(static_cast<float>(std::exp(random.normal() - 4)), grid));
    if (!format.symmetric)
      linear.zero_points.push_back(static_cast<std::int16_t>(random.below(1U << static_cast<unsigned>(format.bits))));
  }
  return linear;
}

QuantizerFormat weights(int bits, bool symmetric, std::int64_t group) {
  QuantizerFormat format{bits, symmetric, ScaleMode::static_scale, Granularity::group, group};
  if (group == 0) format.granularity = Granularity::channel;
  format.scale_type = ScaleType::f16;
  return format;
}

std::vector<float> read_back(std::span<const std::byte> blocks, io::DType type) {
  std::vector<float> values(static_cast<std::size_t>(shape.out_features * shape.in_features));
  io::dequantize_blocks(type, blocks, values);
  return values;
}

io::DType type_of(const QuantizerFormat& format) { return weight_type(format, small_spec(64, 128, 4, 2, 16), "OUT"); }

struct Case {
  QuantizerFormat format;
  io::DType type;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const std::int64_t group : {0, 32, 64}) {
    for (const int bits : {3, 4}) all.push_back({weights(bits, true, group), io::DType::q4_0});
    for (const int bits : {5, 6, 7, 8}) all.push_back({weights(bits, true, group), io::DType::q8_0});
    for (const int bits : {2, 3, 4}) all.push_back({weights(bits, false, group), io::DType::q4_1});
    all.push_back({weights(2, true, group), group == 32 ? io::DType::q4_0 : io::DType::q2_0});
  }
  return all;
}

TEST(BlockEncoding, HoldsTheWeightsValueForValue) {
  for (const Case& one : cases()) {
    SCOPED_TRACE(std::string(io::dtype_name(one.type)) + " of bits " + std::to_string(one.format.bits));
    ASSERT_EQ(type_of(one.format), one.type);
    const QuantizedLinear linear = random_linear(one.format);
    const auto blocks = encode_linear({linear, shape}, one.format, one.type, ScaleRounding::refuse, "w");
    EXPECT_EQ(read_back(blocks, one.type), dequantized(linear, shape, one.format));
  }
}

/// What goes wrong where blocks are written by somebody who has not read ggml-quants.c.
TEST(BlockEncoding, BrokenVariantsAreSeen) {
  for (const Case& one : cases()) {
    const QuantizedLinear linear = random_linear(one.format);
    const std::vector<float> expected = dequantized(linear, shape, one.format);
    const auto blocks = encode_linear({linear, shape}, one.format, one.type, ScaleRounding::refuse, "w");
    const std::size_t size = io::dtype_size(one.type);
    const auto broken = [&](const std::function<void(std::byte*)>& damage) {
      std::vector<std::byte> other = blocks;
      for (std::size_t at = 0; at < other.size(); at += size) damage(other.data() + at);
      return read_back(other, one.type) != expected;
    };
    if (one.type == io::DType::q2_0) {
      EXPECT_TRUE(broken([](std::byte* block) { block[1] ^= std::byte{0x80}; })) << "d is -scale";
    }
    if (one.type != io::DType::q4_0 && one.type != io::DType::q4_1) continue;
    EXPECT_TRUE(broken([&](std::byte* block) {  // values 2i and 2i + 1 in byte i
      std::byte* bytes = block + size - 16;
      std::array<std::byte, 32> values;
      for (std::size_t i = 0; i < 16; ++i) {
        values[i] = bytes[i] & std::byte{15};
        values[i + 16] = bytes[i] >> 4;
      }
      for (std::size_t i = 0; i < 16; ++i) bytes[i] = values[2 * i] | values[2 * i + 1] << 4;
    })) << "nibbles interleaved";
  }
}

TEST(BlockEncoding, RowsStandAsRotationPairsWithTheirScales) {
  const QuantizerFormat format = weights(4, true, 32);
  const QuantizedLinear linear = random_linear(format);
  const std::vector<float> expected = dequantized(linear, shape, format);
  const auto rows_of = [&](const std::vector<std::byte>& blocks) { return read_back(blocks, io::DType::q4_0); };
  const auto paired = rows_of(encode_linear({linear, shape, 4}, format, io::DType::q4_0, ScaleRounding::refuse, "w"));
  constexpr std::array<std::size_t, 8> stored{0, 2, 1, 3, 4, 6, 5, 7};  // of two heads of four channels
  for (std::size_t row = 0; row < 8; ++row) {
    const auto at = [](const std::vector<float>& values, std::size_t r) {
      return std::vector<float>(values.begin() + static_cast<std::ptrdiff_t>(r * 128),
                                values.begin() + static_cast<std::ptrdiff_t>(r * 128 + 128));
    };
    EXPECT_EQ(at(paired, stored[row]), at(expected, row));
  }
  // Codes moved and scales forgotten: the bytes behind each d change places, d stays.
  std::vector<std::byte> forgotten =
      encode_linear({linear, shape}, format, io::DType::q4_0, ScaleRounding::refuse, "w");
  const auto right = encode_linear({linear, shape, 4}, format, io::DType::q4_0, ScaleRounding::refuse, "w");
  for (std::size_t at = 0; at < right.size(); at += 18)
    std::copy_n(right.begin() + static_cast<std::ptrdiff_t>(at) + 2, 16,
                forgotten.begin() + static_cast<std::ptrdiff_t>(at) + 2);
  EXPECT_NE(rows_of(forgotten), paired);
}

TEST(BlockEncoding, NoLossIsSilent) {
  const QuantizerFormat symmetric = weights(4, true, 32);
  QuantizedLinear linear = random_linear(symmetric);
  linear.scales[5] = 0.1F;
  const auto encode = [&](const QuantizerFormat& format, io::DType type, ScaleRounding rounding) {
    return encode_linear({linear, shape}, format, type, rounding, "OUT: layer");
  };
  EXPECT_THAT(message_of<UnsupportedError>([&] { encode(symmetric, io::DType::q4_0, ScaleRounding::refuse); }),
              ::testing::AllOf(HasSubstr("OUT: layer"), HasSubstr("0.1 of row 1, group 1"),
                               HasSubstr("weight.scale_type=f16")));
  const auto rounded = read_back(encode(symmetric, io::DType::q4_0, ScaleRounding::round), io::DType::q4_0);
  const auto exact = dequantized(linear, shape, symmetric);
  for (std::size_t i = 0; i < exact.size(); ++i) EXPECT_NEAR(rounded[i], exact[i], std::abs(exact[i]) / 2048);
  linear.scales[5] = 1e6F;
  EXPECT_THAT(message_of<UnsupportedError>([&] { encode(symmetric, io::DType::q4_0, ScaleRounding::round); }),
              HasSubstr("beyond binary16"));
  const QuantizerFormat asymmetric = weights(4, false, 32);
  linear = random_linear(asymmetric);
  linear.scales[0] = f16_to_float(0x2FFF);  // 11 digits: 13 times that is no binary16 number
  linear.zero_points[0] = 13;
  EXPECT_THAT(message_of<UnsupportedError>([&] { encode(asymmetric, io::DType::q4_1, ScaleRounding::refuse); }),
              HasSubstr("zero point times scale"));
}

TEST(BlockEncoding, FormatsWithoutAPlaceAreRefusedByField) {
  const auto refusal = [](QuantizerFormat format, const ModelSpec& spec = small_spec(64, 128, 4, 2, 16)) {
    return message_of<UnsupportedError>([&] { weight_type(format, spec, "OUT"); });
  };
  EXPECT_THAT(refusal(weights(4, true, 48)), HasSubstr("weight.group"));
  EXPECT_THAT(refusal(weights(4, true, 0), small_spec(48, 128, 4, 2, 12)), HasSubstr("weight.granularity"));
  EXPECT_THAT(refusal(weights(8, false, 32)), HasSubstr("weight.symmetric"));
  EXPECT_THAT(refusal(named_recipe("w4g64a8kv4-static").weight), HasSubstr("weight.two_level"));
  EXPECT_EQ(type_of(weights(16, true, 0)), io::DType::f16);
}

}  // namespace
}  // namespace pq::exchange
