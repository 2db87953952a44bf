#include "io/foreign_layout.h"

#include <gmock/gmock.h>

#include <array>
#include <limits>
#include <map>

#include "base/index.h"
#include "io/test_files.h"
#include "numerics/packing.h"

namespace pq::io {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;

using Matrix = std::vector<std::vector<std::int32_t>>;

Matrix random_matrix(std::int64_t rows, std::int64_t columns, int bits, std::uint64_t seed) {
  Random random(seed, "codes");
  Matrix matrix(index(rows), std::vector<std::int32_t>(index(columns)));
  for (auto& row : matrix) {
    for (auto& code : row) code = static_cast<std::int32_t>(random.below(std::uint64_t{1} << bits));
  }
  return matrix;
}
Matrix transposed(const Matrix& matrix) {
  Matrix result(matrix[0].size(), std::vector<std::int32_t>(matrix.size()));
  for (std::size_t i = 0; i < matrix.size(); ++i) {
    for (std::size_t j = 0; j < matrix[i].size(); ++j) result[j][i] = matrix[i][j];
  }
  return result;
}

/// What a program that forgets something would write.
struct Mistakes {
  bool plain_nibbles = false;      ///< of AWQ
  bool zeros_along_input = false;  ///< of compressed-tensors
  bool zeros_as_they_are = false;  ///< of GPTQ's first version
};

/// Tensors in memory.
class Tensors {
 public:
  template <typename T>
  void add(const std::string& name, DType dtype, std::vector<std::int64_t> shape, const std::vector<T>& values) {
    const auto bytes = std::as_bytes(std::span(values));
    bytes_[name].assign(bytes.begin(), bytes.end());
    views_[name] = {name, dtype, std::move(shape), bytes_[name], "file"};
  }
  /// Rows of codes as streams of bits in 32-bit words, as the programs that write them do it: code by code, bit by bit.
  void add_words(const std::string& name, const Matrix& rows, int bits, bool down_columns = false) {
    const std::size_t words = (rows[0].size() * static_cast<std::size_t>(bits) + 31) / 32;
    Matrix packed(rows.size(), std::vector<std::int32_t>(words));
    for (std::size_t row = 0; row < rows.size(); ++row) {
      for (std::size_t i = 0; i < rows[row].size() * static_cast<std::size_t>(bits); ++i) {
        const int bit = rows[row][i / static_cast<std::size_t>(bits)] >> (i % static_cast<std::size_t>(bits)) & 1;
        packed[row][i / 32] |= static_cast<std::int32_t>(static_cast<std::uint32_t>(bit) << (i % 32));
      }
    }
    if (down_columns) packed = transposed(packed);
    std::vector<std::int32_t> flat;
    for (const auto& row : packed) flat.insert(flat.end(), row.begin(), row.end());
    add(name, DType::i32, {static_cast<std::int64_t>(packed.size()), static_cast<std::int64_t>(packed[0].size())},
        flat);
  }
  TensorView& operator[](const std::string& name) { return views_.at(name); }
  void remove(const std::string& name) { views_.erase(name); }
  TensorFinder finder() const {
    return [this](std::string_view name) -> std::optional<TensorView> {
      const auto found = views_.find(std::string(name));
      return found == views_.end() ? std::nullopt : std::optional(found->second);
    };
  }

 private:
  std::map<std::string, std::vector<std::byte>> bytes_;
  std::map<std::string, TensorView> views_;
};

/// A linear layer with random codes, and the tensors that hold it.
struct Layer {
  ForeignScheme scheme;
  std::int64_t out;
  std::int64_t in;
  Matrix codes;  // [out][in]
  Matrix zeros;  // [out][groups]
  std::vector<float> scales;
  Tensors tensors;

  Layer(ForeignScheme of, std::int64_t outputs, std::int64_t inputs, Mistakes mistakes = {})
      : scheme(of), out(outputs), in(inputs) {
    const std::int64_t groups = scheme.weight.groups(in);
    const int bits = scheme.weight.bits;
    codes = random_matrix(out, in, bits, 1);
    zeros = random_matrix(out, groups, bits, 2);
    for (auto& row : zeros) {
      for (auto& zero : row) {
        if (scheme.weight.symmetric) zero = 1 << (bits - 1);
        zero = std::max(zero, scheme.zero_offset);
      }
    }
    Random random(3, "scales");
    for (std::int64_t i = 0; i < out * groups; ++i) scales.push_back(static_cast<float>(random.normal()));
    switch (scheme.layout) {
      case ForeignLayout::pack_quantized:
        write_packed(mistakes);
        break;
      case ForeignLayout::int_quantized:
        write_bytes();
        break;
      case ForeignLayout::gptq:
        write_gptq(mistakes);
        break;
      case ForeignLayout::awq_gemm:
        write_awq(mistakes);
        break;
    }
  }

  ForeignPlace place() const { return {"P", out, in, 0, out}; }
  ForeignLinear read() const { return read_foreign_linear(tensors.finder(), place(), scheme, BlockWeights::read); }
  std::string refusal() const {
    return message_of<FormatError>([&] { read(); });
  }

 private:
  std::int64_t groups() const { return scheme.weight.groups(in); }

  void write_packed(Mistakes mistakes) {
    tensors.add_words("P.weight_packed", codes, scheme.weight.bits);
    tensors.add("P.weight_scale", DType::f32, {out, groups()}, scales);
    tensors.add("P.weight_shape", DType::i64, {2}, std::vector<std::int64_t>{out, in});
    if (scheme.weight.symmetric) return;
    if (mistakes.zeros_along_input) return tensors.add_words("P.weight_zero_point", zeros, scheme.weight.bits);
    tensors.add_words("P.weight_zero_point", transposed(zeros), scheme.weight.bits, true);
  }
  void write_bytes() {
    const auto bytes = [&](const Matrix& matrix) {
      std::vector<std::int8_t> flat;
      for (const auto& row : matrix) {
        for (const std::int32_t code : row)
          flat.push_back(static_cast<std::int8_t>(code - (1 << (scheme.weight.bits - 1))));
      }
      return flat;
    };
    tensors.add("P.weight", DType::i8, {out, in}, bytes(codes));
    tensors.add("P.weight_scale", DType::f32, {out, groups()}, scales);
    if (!scheme.weight.symmetric) tensors.add("P.weight_zero_point", DType::i8, {out, groups()}, bytes(zeros));
  }
  void write_gptq(Mistakes mistakes) {
    Matrix stored = transposed(zeros);
    for (auto& row : stored) {
      for (auto& zero : row) zero -= mistakes.zeros_as_they_are ? 0 : scheme.zero_offset;
    }
    tensors.add_words("P.qweight", codes, scheme.weight.bits, true);
    tensors.add_words("P.qzeros", stored, scheme.weight.bits);
    add_input_first_scales();
  }
  void write_awq(Mistakes mistakes) {
    constexpr std::array<std::size_t, 8> order{0, 2, 4, 6, 1, 3, 5, 7};
    const auto ordered = [&](Matrix matrix) {
      for (auto& row : matrix) {
        const std::vector<std::int32_t> plain = row;
        for (std::size_t i = 0; i < row.size() && !mistakes.plain_nibbles; ++i)
          row[i] = plain[i / 8 * 8 + order[i % 8]];
      }
      return matrix;
    };
    tensors.add_words("P.qweight", ordered(transposed(codes)), 4);
    tensors.add_words("P.qzeros", ordered(transposed(zeros)), 4);
    add_input_first_scales();
  }
  void add_input_first_scales() {
    std::vector<float> turned(scales.size());
    for (std::int64_t o = 0; o < out; ++o) {
      for (std::int64_t g = 0; g < groups(); ++g) turned[index(g * out + o)] = scales[index(o * groups() + g)];
    }
    tensors.add("P.scales", DType::f32, {groups(), out}, turned);
  }
};

Matrix codes_of(const ForeignLinear& linear, std::int64_t out, std::int64_t in, int bits) {
  const auto* bytes =
      linear.codes ? reinterpret_cast<const std::uint8_t*>(linear.codes->bytes.data()) : linear.parameters.codes.data();
  const std::size_t row_bytes = index(packed_row_bytes(in, bits));
  Matrix codes(index(out), std::vector<std::int32_t>(index(in)));
  for (std::size_t row = 0; row < index(out); ++row) {
    unpack_row({bytes + row * row_bytes, row_bytes}, bits, false, std::span<std::int32_t>(codes[row]));
  }
  return codes;
}
Matrix zeros_of(const ForeignLinear& linear, std::int64_t out) {
  const std::vector<std::int16_t>& zeros = linear.parameters.zero_points;
  Matrix matrix(index(out));
  for (std::size_t i = 0; i < zeros.size(); ++i) matrix[i / (zeros.size() / index(out))].push_back(zeros[i]);
  return matrix;
}

ForeignScheme scheme_of(ForeignLayout layout, int bits, bool symmetric, std::int64_t group) {
  ForeignScheme scheme;
  scheme.layout = layout;
  scheme.weight = {bits, symmetric, ScaleMode::static_scale, group > 0 ? Granularity::group : Granularity::channel,
                   group};
  scheme.zero_offset = layout == ForeignLayout::gptq ? 1 : 0;
  scheme.reordered = layout == ForeignLayout::gptq;
  return scheme;
}

void expect_read(const Layer& layer) {
  const int bits = layer.scheme.weight.bits;
  SCOPED_TRACE(fmt::format("{} {} bits {}x{} group {}", foreign_layout_row(layer.scheme.layout).name, bits, layer.out,
                           layer.in, layer.scheme.weight.group));
  const ForeignLinear linear = layer.read();
  EXPECT_EQ(codes_of(linear, layer.out, layer.in, bits), layer.codes);
  EXPECT_EQ(linear.parameters.scales, layer.scales);
  if (layer.scheme.weight.symmetric) {
    EXPECT_TRUE(linear.parameters.zero_points.empty());
  } else {
    EXPECT_EQ(zeros_of(linear, layer.out), layer.zeros);
  }
}

TEST(ForeignLayout, UnpacksEveryLayout) {
  for (const bool symmetric : {true, false}) {
    for (const int bits : {2, 3, 4, 5, 8}) {
      for (const std::int64_t group : {0, 32}) {
        for (const std::int64_t out : {8, 37}) {
          expect_read(Layer(scheme_of(ForeignLayout::pack_quantized, bits, symmetric, group), out, 64));
          expect_read(Layer(scheme_of(ForeignLayout::int_quantized, bits, symmetric, group), out, 64));
        }
        expect_read(Layer(scheme_of(ForeignLayout::pack_quantized, bits, symmetric, 0), 5, 45));
        if (bits != 5) expect_read(Layer(scheme_of(ForeignLayout::gptq, bits, symmetric, group), 64, 96));
        if (bits == 4) expect_read(Layer(scheme_of(ForeignLayout::awq_gemm, bits, symmetric, group), 40, 64));
      }
    }
  }
  // Rows of the file that are ours stay where they are.
  EXPECT_TRUE(Layer(scheme_of(ForeignLayout::pack_quantized, 4, true, 32), 8, 64).read().codes.has_value());
  EXPECT_FALSE(Layer(scheme_of(ForeignLayout::pack_quantized, 4, true, 0), 8, 60).read().codes.has_value());
}

TEST(ForeignLayout, ReadsPartsOfAStoredWeight) {
  for (const ForeignLayout layout : {ForeignLayout::pack_quantized, ForeignLayout::gptq, ForeignLayout::awq_gemm}) {
    const Layer layer(scheme_of(layout, 4, false, 32), 40, 64);
    const ForeignLinear part =
        read_foreign_linear(layer.tensors.finder(), {"P", 40, 64, 9, 13}, layer.scheme, BlockWeights::read);
    const auto rows = [](const Matrix& all) { return Matrix(all.begin() + 9, all.begin() + 22); };
    EXPECT_EQ(codes_of(part, 13, 64, 4), rows(layer.codes));
    EXPECT_EQ(zeros_of(part, 13), rows(layer.zeros));
    EXPECT_EQ(part.parameters.scales, std::vector(layer.scales.begin() + 18, layer.scales.begin() + 44));
  }
}

TEST(ForeignLayout, WhatAWriterForgetsChangesTheNumbers) {
  const Layer nibbles(scheme_of(ForeignLayout::awq_gemm, 4, false, 32), 40, 64, {.plain_nibbles = true});
  EXPECT_NE(codes_of(nibbles.read(), 40, 64, 4), nibbles.codes);
  EXPECT_NE(zeros_of(nibbles.read(), 40), nibbles.zeros);
  // As many groups as outputs in a word, so that the wrong axis has the right shape.
  const Layer axis(scheme_of(ForeignLayout::pack_quantized, 4, false, 32), 1, 32, {.zeros_along_input = true});
  EXPECT_EQ(zeros_of(axis.read(), 1), axis.zeros);  // the same word where there is one zero point
  const Layer square(scheme_of(ForeignLayout::pack_quantized, 4, false, 32), 8, 256, {.zeros_along_input = true});
  EXPECT_THAT(square.refusal(), AllOf(HasSubstr("P.weight_zero_point"), HasSubstr("[8, 1], expected I32 [1, 8]")));
  Layer turned(scheme_of(ForeignLayout::pack_quantized, 4, false, 32), 8, 256, {.zeros_along_input = true});
  turned.tensors["P.weight_zero_point"].shape = {1, 8};
  EXPECT_NE(zeros_of(turned.read(), 8), turned.zeros);
  Layer offset(scheme_of(ForeignLayout::gptq, 4, false, 32), 32, 64);
  offset.scheme.zero_offset = 0;
  EXPECT_NE(zeros_of(offset.read(), 32), offset.zeros);
}

TEST(ForeignLayout, PutsColumnsInTheOrderOfTheirGroups) {
  Layer layer(scheme_of(ForeignLayout::gptq, 4, false, 32), 16, 64);
  std::vector<std::int32_t> groups(64);
  for (std::size_t i = 0; i < groups.size(); ++i) groups[i] = static_cast<std::int32_t>(i % 2);
  layer.tensors.add("P.g_idx", DType::i32, {64}, groups);
  const ForeignLinear linear = layer.read();
  ASSERT_EQ(linear.columns.size(), 64U);
  const Matrix codes = codes_of(linear, 16, 64, 4);
  for (std::size_t i = 0; i < 64; ++i) {
    EXPECT_EQ(linear.columns[i], static_cast<std::int32_t>(i < 32 ? 2 * i : 2 * (i - 32) + 1));
    for (std::size_t o = 0; o < 16; ++o) EXPECT_EQ(codes[o][i], layer.codes[o][index(linear.columns[i])]);
  }

  for (std::size_t i = 0; i < groups.size(); ++i) groups[i] = static_cast<std::int32_t>(i / 32);
  layer.tensors.add("P.g_idx", DType::i32, {64}, groups);
  EXPECT_TRUE(layer.read().columns.empty());
  groups[0] = 1;
  layer.tensors.add("P.g_idx", DType::i32, {64}, groups);
  EXPECT_THAT(message_of<UnsupportedError>([&] { layer.read(); }),
              AllOf(HasSubstr("P.g_idx"), HasSubstr("32 columns each"), HasSubstr("desc_act: false")));
  groups[0] = 2;
  layer.tensors.add("P.g_idx", DType::i32, {64}, groups);
  EXPECT_THAT(layer.refusal(), HasSubstr("column 0 is of group 2 of 2"));

  Layer packed(scheme_of(ForeignLayout::pack_quantized, 4, true, 32), 8, 64);
  for (std::size_t i = 0; i < groups.size(); ++i) groups[i] = static_cast<std::int32_t>(i % 2);
  packed.tensors.add("P.weight_g_idx", DType::i32, {64}, groups);
  EXPECT_THAT(packed.refusal(), HasSubstr("names no activation order"));
  packed.scheme.reordered = true;
  EXPECT_FALSE(packed.read().columns.empty());
}

TEST(ForeignLayout, SaysWhichTensorIsWrong) {
  const auto damaged = [](ForeignLayout layout, bool symmetric, const std::function<void(Layer&)>& damage) {
    Layer layer(scheme_of(layout, 4, symmetric, 32), 16, 64);
    damage(layer);
    return layer.refusal();
  };
  using enum ForeignLayout;
  EXPECT_THAT(damaged(pack_quantized, true, [](Layer& l) { l.tensors.remove("P.weight_packed"); }),
              HasSubstr("there is no tensor 'P.weight_packed'"));
  EXPECT_THAT(damaged(pack_quantized, true,
                      [](Layer& l) {
                        l.tensors["P.weight_packed"].shape = {8, 16};
                      }),
              AllOf(HasSubstr("P.weight_packed"), HasSubstr("expected I32 [16, 8]")));
  EXPECT_THAT(damaged(pack_quantized, true, [](Layer& l) { l.tensors["P.weight_packed"].dtype = DType::f32; }),
              HasSubstr("is F32"));
  EXPECT_THAT(damaged(pack_quantized, true,
                      [](Layer& l) {
                        l.tensors.add("P.weight_shape", DType::i64, {2}, std::vector<std::int64_t>{64, 16});
                      }),
              HasSubstr("P.weight_shape': says [64, 16], config.json [16, 64]"));
  EXPECT_THAT(damaged(pack_quantized, true,
                      [](Layer& l) {
                        l.scales[7] = std::numeric_limits<float>::quiet_NaN();
                        l.tensors.add("P.weight_scale", DType::f32, {16, 2}, l.scales);
                      }),
              HasSubstr("P.weight_scale': element 7 is not finite"));
  EXPECT_THAT(damaged(pack_quantized, true,
                      [](Layer& l) {
                        l.tensors.add("P.weight_scale", DType::i32, {16, 2}, std::vector<std::int32_t>(32, 1));
                      }),
              HasSubstr("is I32, not floating-point"));
  EXPECT_THAT(damaged(pack_quantized, true, [](Layer& l) { l.tensors.add_words("P.weight_zero_point", l.zeros, 4); }),
              HasSubstr("says that weights are symmetric"));
  EXPECT_THAT(damaged(pack_quantized, false, [](Layer& l) { l.tensors.remove("P.weight_zero_point"); }),
              HasSubstr("'P.weight_zero_point'"));
  EXPECT_THAT(damaged(int_quantized, true,
                      [](Layer& l) {
                        std::vector<std::int8_t> bytes(16 * 64);
                        bytes[5 * 64] = 9;
                        l.tensors.add("P.weight", DType::i8, {16, 64}, bytes);
                      }),
              HasSubstr("output 5 holds a code of more than 4 bits"));
  // 15 + 1: programs read 16, or 0.
  EXPECT_THAT(damaged(gptq, false,
                      [](Layer& l) {
                        Matrix stored = transposed(l.zeros);
                        for (auto& row : stored) {
                          for (auto& zero : row) --zero;
                        }
                        stored[1][3] = 15;
                        l.tensors.add_words("P.qzeros", stored, 4);
                      }),
              AllOf(HasSubstr("P.qzeros"), HasSubstr("group 1"), HasSubstr("outside 0 to 15")));
  EXPECT_THAT(damaged(gptq, true,
                      [](Layer& l) {
                        Matrix stored = transposed(l.zeros);
                        for (auto& row : stored) {
                          for (auto& zero : row) --zero;
                        }
                        stored[1][3] = 4;
                        l.tensors.add_words("P.qzeros", stored, 4);
                      }),
              AllOf(HasSubstr("output 3, group 1: its zero point is 5"), HasSubstr("\"sym\": false")));
}

}  // namespace
}  // namespace pq::io
