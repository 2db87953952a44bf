#include "io/foreign_layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <numeric>
#include <span>

#include "base/error.h"
#include "base/index.h"
#include "base/parallel_for.h"
#include "numerics/packing.h"

namespace pq::io {
namespace {

constexpr std::string_view again = "the checkpoint is damaged, or its quantization config is of another one";
constexpr int word_bits = 32;

constexpr std::array rows{
    ForeignLayoutRow{ForeignLayout::pack_quantized, "pack-quantized", ".weight_packed", ".weight_scale",
                     ".weight_zero_point", ".weight_g_idx", CodePacking{.output_first = true, .along_rows = true},
                     CodePacking{.output_first = true, .along_rows = false}, true, false},
    ForeignLayoutRow{ForeignLayout::int_quantized, "int-quantized", ".weight", ".weight_scale", ".weight_zero_point",
                     ".weight_g_idx", CodePacking{.bytes = true}, CodePacking{.bytes = true}, true, false},
    ForeignLayoutRow{ForeignLayout::gptq, "gptq", ".qweight", ".scales", ".qzeros", ".g_idx",
                     CodePacking{.output_first = false, .along_rows = false},
                     CodePacking{.output_first = false, .along_rows = true}, false, true},
    ForeignLayoutRow{ForeignLayout::awq_gemm, "awq gemm", ".qweight", ".scales", ".qzeros", "",
                     CodePacking{.output_first = false, .along_rows = true, .interleaved = true},
                     CodePacking{.output_first = false, .along_rows = true, .interleaved = true}, false, true},
};

[[noreturn]] void fail(const TensorView& view, std::string_view what, std::string_view remedy = again) {
  throw FormatError(fmt::format("{}: tensor '{}'", view.file, view.name), what, remedy);
}

/// A matrix of codes [outputs, others] as some program packed it.
class CodeMatrix {
 public:
  /// Throws FormatError for another type or shape.
  CodeMatrix(const TensorView& view, const CodePacking& packing, int bits, std::int64_t outputs, std::int64_t others)
      : view_(view), packing_(packing), bits_(bits), mask_((1U << bits) - 1) {
    std::array<std::int64_t, 2> shape{outputs, others};
    if (!packing.output_first) std::swap(shape[0], shape[1]);
    if (!packing.bytes) {
      std::int64_t& packed = shape[packing.along_rows ? 1 : 0];
      packed = (packed * bits + word_bits - 1) / word_bits;
    }
    words_in_row_ = shape[1];
    expect_tensor(view, {view.name, packing.bytes ? DType::i8 : DType::i32, {shape[0], shape[1]}});
  }

  /// The stored code, 0 .. 2^bits - 1; of bytes what may lie outside.
  std::int32_t code(std::int64_t output, std::int64_t other) const {
    const std::int64_t row = packing_.output_first ? output : other;
    const std::int64_t column = packing_.output_first ? other : output;
    if (packing_.bytes) {
      return static_cast<std::int8_t>(view_.bytes[index(row * words_in_row_ + column)]) + (1 << (bits_ - 1));
    }
    std::int64_t at = packing_.along_rows ? column : row;
    if (packing_.interleaved) at = at / 8 * 8 + place_in_word[index(at % 8)];
    const std::int64_t bit = at * bits_;
    const std::int64_t shift = bit % word_bits;
    const std::int64_t step = packing_.along_rows ? 1 : words_in_row_;
    const std::int64_t first = (packing_.along_rows ? row * words_in_row_ : column) + bit / word_bits * step;
    std::uint32_t value = word(first) >> shift;
    if (shift + bits_ > word_bits) value |= word(first + step) << (word_bits - shift);
    return static_cast<std::int32_t>(value & mask_);
  }

 private:
  static constexpr std::array<std::int64_t, 8> place_in_word{0, 4, 1, 5, 2, 6, 3, 7};

  std::uint32_t word(std::int64_t i) const {
    std::uint32_t value = 0;
    std::memcpy(&value, view_.bytes.data() + index(i) * sizeof value, sizeof value);
    return value;
  }

  const TensorView& view_;
  CodePacking packing_;
  int bits_;
  std::uint32_t mask_;
  std::int64_t words_in_row_ = 0;
};

class LinearReader {
 public:
  LinearReader(const TensorFinder& tensor, const ForeignPlace& place, const ForeignScheme& scheme)
      : tensor_(tensor),
        place_(place),
        scheme_(scheme),
        row_(foreign_layout_row(scheme.layout)),
        groups_(scheme.weight.groups(place.columns)) {}

  ForeignLinear read(BlockWeights weights) const {
    ForeignLinear linear;
    check_stored_shape();
    linear.columns = column_order();
    linear.parameters.scales = scales();
    linear.parameters.zero_points = zero_points();
    const TensorView codes = need(row_.codes);
    const CodeMatrix matrix(codes, row_.code_packing, scheme_.weight.bits, place_.rows, place_.columns);
    if (weights == BlockWeights::leave) return linear;
    if (linear.columns.empty() && in_place()) {
      linear.codes = in_place(codes);
    } else {
      linear.parameters.codes = repacked(codes, matrix, linear.columns);
    }
    return linear;
  }

 private:
  TensorView need(std::string_view end) const {
    const std::string name = place_.module + std::string(end);
    std::optional<TensorView> view = tensor_(name);
    if (!view) {
      throw FormatError(
          place_.module,
          fmt::format("there is no tensor '{}', which its quantization config asks for ({})", name, row_.name),
          "the checkpoint is incomplete, or leaves this layer unquantized without saying so");
    }
    return *view;
  }

  /// The shape that compressed-tensors keeps beside the words.
  void check_stored_shape() const {
    if (scheme_.layout != ForeignLayout::pack_quantized) return;
    const std::optional<TensorView> view = tensor_(place_.module + ".weight_shape");
    if (!view) return;
    const bool wide = view->dtype == DType::i64;
    if ((!wide && view->dtype != DType::i32) || view->shape != std::vector<std::int64_t>{2}) {
      fail(*view, fmt::format("is {} {}, expected I64 [2]", dtype_name(view->dtype), shape_text(view->shape)));
    }
    std::vector<std::int64_t> shape;
    if (wide) {
      shape = copy_values<std::int64_t>(*view);
    } else {
      const auto values = copy_values<std::int32_t>(*view);
      shape.assign(values.begin(), values.end());
    }
    if (shape == std::vector{place_.rows, place_.columns}) return;
    fail(*view, fmt::format("says {}, config.json {}", shape_text(shape),
                            shape_text(std::array{place_.rows, place_.columns})));
  }

  std::size_t at(std::int64_t output, std::int64_t group) const { return index(output * groups_ + group); }

  std::vector<float> scales() const {
    const TensorView view = need(row_.scales);
    if (!is_floating(view.dtype) || is_block_type(view.dtype)) {
      fail(view, fmt::format("is {}, not floating-point", dtype_name(view.dtype)));
    }
    std::vector<std::int64_t> shape{place_.rows, groups_};
    if (!row_.scales_output_first) std::swap(shape[0], shape[1]);
    const bool flat = !scheme_.one_scale && groups_ == 1 && view.shape == std::vector<std::int64_t>{place_.rows};
    const bool one = scheme_.one_scale && view.size() == 1 && view.shape.size() <= 2;
    if (!flat && !one) {
      if (scheme_.one_scale) shape = {1};
      expect_tensor(view, {view.name, view.dtype, shape});
    }
    std::vector<float> stored(index(view.size()));
    to_float32(view, stored);
    for (std::size_t i = 0; i < stored.size(); ++i) {
      if (!std::isfinite(stored[i])) fail(view, fmt::format("element {} is not finite", i));
    }
    std::vector<float> scales(at(place_.count, 0));
    for (std::int64_t output = 0; output < place_.count; ++output) {
      const std::int64_t row = place_.first_row + output;
      for (std::int64_t group = 0; group < groups_; ++group) {
        const std::int64_t from = scheme_.one_scale          ? 0
                                  : row_.scales_output_first ? row * groups_ + group
                                                             : group * place_.rows + row;
        scales[at(output, group)] = stored[index(from)];
      }
    }
    return scales;
  }

  /// Empty in a symmetric scheme, where a layout that stores them has them all in the middle.
  std::vector<std::int16_t> zero_points() const {
    const QuantizerFormat& format = scheme_.weight;
    if (format.symmetric && !row_.always_zeros) {
      if (const std::optional<TensorView> view = tensor_(place_.module + std::string(row_.zeros))) {
        fail(*view, "is a zero point, but the quantization config says that weights are symmetric");
      }
      return {};
    }
    TensorView view = need(row_.zeros);
    if (scheme_.one_scale && view.shape == std::vector<std::int64_t>{1}) view.shape = {1, 1};
    const std::int64_t stored_rows = scheme_.one_scale ? 1 : place_.rows;
    const CodeMatrix matrix(view, row_.zero_packing, format.bits, stored_rows, groups_);
    const std::int32_t middle = 1 << (format.bits - 1);
    const std::int32_t high = (1 << format.bits) - 1;
    std::vector<std::int16_t> zeros(at(place_.count, 0));
    for (std::int64_t output = 0; output < place_.count; ++output) {
      const std::int64_t row = scheme_.one_scale ? 0 : place_.first_row + output;
      for (std::int64_t group = 0; group < groups_; ++group) {
        const std::int32_t zero = matrix.code(row, group) + scheme_.zero_offset;
        if (zero < 0 || zero > high) {
          fail(view, fmt::format("output {}, group {}: its zero point is {}, outside 0 to {}", row, group, zero, high),
               "programs differ in what they make of it; quantize the model again");
        }
        if (format.symmetric && zero != middle) {
          fail(view,
               fmt::format("output {}, group {}: its zero point is {}, but the quantization config says symmetric ({})",
                           row, group, zero, middle),
               "if the zero points are meant, say so there (\"sym\": false, \"zero_point\": true)");
        }
        zeros[at(output, group)] = static_cast<std::int16_t>(zero);
      }
    }
    return format.symmetric ? std::vector<std::int16_t>() : zeros;
  }

  /// Columns by group, in their order inside a group; empty where they stand so.
  std::vector<std::int32_t> column_order() const {
    if (row_.column_groups.empty()) return {};
    const std::optional<TensorView> view = tensor_(place_.module + std::string(row_.column_groups));
    if (!view) return {};
    expect_tensor(*view, {view->name, DType::i32, {place_.columns}});
    const auto group_of = copy_values<std::int32_t>(*view);
    const std::int64_t size = groups_ == 1 ? place_.columns : scheme_.weight.group;
    const auto in_order = [&](std::int64_t column, std::int32_t group) { return group == column / size; };
    bool ordered = true;
    for (std::int64_t column = 0; column < place_.columns; ++column) {
      const std::int32_t group = group_of[index(column)];
      if (group < 0 || group >= groups_) {
        fail(*view, fmt::format("column {} is of group {} of {}", column, group, groups_));
      }
      ordered = ordered && in_order(column, group);
    }
    if (ordered) return {};
    if (!scheme_.reordered) {
      fail(*view, "has columns out of order, but the quantization config names no activation order");
    }
    std::vector<std::int32_t> order(index(place_.columns));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
      return group_of[static_cast<std::size_t>(a)] < group_of[static_cast<std::size_t>(b)];
    });
    for (std::int64_t i = 0; i < place_.columns; ++i) {
      if (in_order(i, group_of[static_cast<std::size_t>(order[index(i)])])) continue;
      throw UnsupportedError(fmt::format("{}: tensor '{}'", view->file, view->name),
                             fmt::format("activation order with groups that do not have {} columns each", size),
                             "use a checkpoint that was quantized without activation order (desc_act: false)");
    }
    return order;
  }

  /// Whether rows of the file are rows of ours.
  bool in_place() const {
    return row_.code_packing == CodePacking{} && place_.columns * scheme_.weight.bits % word_bits == 0;
  }
  TensorView in_place(const TensorView& codes) const {
    const std::int64_t row_bytes = packed_row_bytes(place_.columns, scheme_.weight.bits);
    return {codes.name,
            DType::u8,
            {place_.count, row_bytes},
            codes.bytes.subspan(index(place_.first_row * row_bytes), index(place_.count * row_bytes)),
            codes.file};
  }

  std::vector<std::uint8_t> repacked(const TensorView& view, const CodeMatrix& matrix,
                                     const std::vector<std::int32_t>& order) const {
    const int bits = scheme_.weight.bits;
    const std::int64_t row_bytes = packed_row_bytes(place_.columns, bits);
    std::vector<std::uint8_t> packed(index(place_.count * row_bytes));
    std::atomic<std::int64_t> wrong = -1;
    // So many outputs at a time: where neighbours in memory are outputs, one line of the cache serves them all.
    constexpr std::int64_t tile = 16;
    const std::int64_t tiles = (place_.count + tile - 1) / tile;
    parallel_for(index(tiles), 1, [&](std::size_t begin, std::size_t end) {
      std::vector<std::int16_t> codes(index(tile * place_.columns));
      for (auto first = static_cast<std::int64_t>(begin) * tile;
           first < std::min(static_cast<std::int64_t>(end) * tile, place_.count); first += tile) {
        const std::int64_t outputs = std::min(tile, place_.count - first);
        for (std::int64_t i = 0; i < place_.columns; ++i) {
          const std::int64_t column = order.empty() ? i : order[index(i)];
          for (std::int64_t lane = 0; lane < outputs; ++lane) {
            const std::int32_t code = matrix.code(place_.first_row + first + lane, column);
            if (code < 0 || code >= 1 << bits) wrong = first + lane;
            codes[index(lane * place_.columns + i)] = static_cast<std::int16_t>(code & ((1 << bits) - 1));
          }
        }
        for (std::int64_t lane = 0; lane < outputs; ++lane) {
          pack_row(std::span(codes).subspan(index(lane * place_.columns), index(place_.columns)), bits, false,
                   std::span(packed).subspan(index((first + lane) * row_bytes), index(row_bytes)));
        }
      }
    });
    if (wrong >= 0) fail(view, fmt::format("output {} holds a code of more than {} bits", wrong.load(), bits));
    return packed;
  }

  const TensorFinder& tensor_;
  const ForeignPlace& place_;
  const ForeignScheme& scheme_;
  const ForeignLayoutRow& row_;
  std::int64_t groups_;
};

}  // namespace

const ForeignLayoutRow& foreign_layout_row(ForeignLayout layout) {
  return *std::find_if(rows.begin(), rows.end(), [&](const ForeignLayoutRow& row) { return row.layout == layout; });
}

ForeignLinear read_foreign_linear(const TensorFinder& tensor, const ForeignPlace& place, const ForeignScheme& scheme,
                                  BlockWeights weights) {
  return LinearReader(tensor, place, scheme).read(weights);
}

}  // namespace pq::io
