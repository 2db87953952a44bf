#include "exchange/block_encoding.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/half.h"
#include "base/index.h"
#include "base/parallel_for.h"
#include "io/safetensors.h"
#include "numerics/packing.h"
#include "numerics/quantize.h"

namespace pq::exchange {
namespace {

constexpr std::size_t rows_at_once = 16;

[[noreturn]] void no_place(std::string_view where, std::string_view field, const std::string& what,
                           std::string_view remedy) {
  throw UnsupportedError(where, fmt::format("recipe field {}: {}", field, what), remedy);
}

/// Whether blocks of `block` values end where groups do, in every layer.
bool divides(const QuantizerFormat& format, const ModelSpec& spec, std::int64_t block) {
  for (const LinearId id : all_linears) {
    const std::int64_t columns = linear_shape(spec, id).in_features;
    if (columns % block != 0) return false;
    if (format.groups(columns) > 1 && format.group % block != 0) return false;
  }
  return true;
}

/// The scales of one row's blocks, as the file holds them.
struct BlockScale {
  std::uint16_t scale;
  std::uint16_t offset;  ///< of asymmetric formats
};

class Encoder {
 public:
  Encoder(const EncodedLinear& layer, const QuantizerFormat& format, io::DType type, ScaleRounding rounding,
          const std::string& name)
      : layer_(layer),
        format_(format),
        type_(type),
        rounding_(rounding),
        name_(name),
        columns_(layer.shape.in_features),
        groups_(format.enabled() ? format.groups(columns_) : 1),
        block_(static_cast<std::int64_t>(io::dtype_block(type))) {}

  std::int64_t row_bytes() const { return columns_ / block_ * static_cast<std::int64_t>(io::dtype_size(type_)); }

  void encode_row(std::int64_t row, std::uint8_t* out) const {
    if (!format_.enabled()) {
      std::memcpy(out, layer_.linear.weight.data() + row * columns_, index(columns_) * sizeof(std::uint16_t));
      return;
    }
    std::vector<std::int16_t> codes(index(columns_));
    const std::size_t packed = index(packed_row_bytes(columns_, format_.bits));
    unpack_row(std::span(layer_.linear.codes).subspan(index(row) * packed, packed), format_.bits, format_.symmetric,
               codes);
    const std::int64_t group = groups_ > 1 ? format_.group : columns_;
    std::int64_t held = -1;
    BlockScale scale{};
    for (std::int64_t column = 0; column < columns_; column += block_, out += io::dtype_size(type_)) {
      if (column / group != held) {
        held = column / group;
        scale = block_scale(row, held);
      }
      encode_block(codes.data() + column, scale, out);
    }
  }

 private:
  std::uint16_t in_half(float value, std::int64_t row, std::int64_t group, std::string_view what) const {
    const std::uint16_t bits = float_to_f16(value);
    const float held = f16_to_float(bits);
    if (!std::isfinite(held)) {
      throw UnsupportedError(name_,
                             fmt::format("{} {} of row {}, group {} is beyond binary16", what, value, row, group),
                             "no block type of GGUF holds it");
    }
    if (held != value && rounding_ == ScaleRounding::refuse) {
      throw UnsupportedError(
          name_,
          fmt::format("{} {} of row {}, group {} is no binary16 number, and GGUF holds no other", what, value, row,
                      group),
          "quantize again with --set weight.scale_type=f16, or export with --round-scales, which changes the weights");
    }
    return bits;
  }

  BlockScale block_scale(std::int64_t row, std::int64_t group) const {
    const std::size_t at = index(row * groups_ + group);
    const float scale = layer_.linear.scales[at];
    const std::uint16_t bits = in_half(scale, row, group, "scale");
    if (format_.symmetric) return {bits, 0};
    const float held = f16_to_float(bits);
    return {bits,
            in_half(-static_cast<float>(layer_.linear.zero_points[at]) * held, row, group, "zero point times scale")};
  }

  void encode_block(const std::int16_t* codes, BlockScale scale, std::uint8_t* out) const {
    constexpr std::uint16_t sign = 0x8000;
    switch (type_) {
      case io::DType::q8_0:
        std::memcpy(out, &scale.scale, 2);
        for (int i = 0; i < 32; ++i) out[2 + i] = static_cast<std::uint8_t>(codes[i]);
        return;
      case io::DType::q2_0: {
        const auto negative = static_cast<std::uint16_t>(scale.scale ^ sign);
        std::memcpy(out, &negative, 2);
        for (int i = 0; i < 16; ++i) {
          unsigned byte = 0;
          for (int j = 0; j < 4; ++j) byte |= static_cast<unsigned>(1 - codes[4 * i + j]) << (2 * j);
          out[2 + i] = static_cast<std::uint8_t>(byte);
        }
        return;
      }
      default: {  // Q4_0 and Q4_1
        const int offset = type_ == io::DType::q4_0 ? 8 : 0;
        const int head = type_ == io::DType::q4_0 ? 2 : 4;
        std::memcpy(out, &scale.scale, 2);
        if (head == 4) std::memcpy(out + 2, &scale.offset, 2);
        for (int i = 0; i < 16; ++i) {
          out[head + i] = static_cast<std::uint8_t>((codes[i] + offset) | (codes[i + 16] + offset) << 4);
        }
      }
    }
  }

  const EncodedLinear& layer_;
  const QuantizerFormat& format_;
  io::DType type_;
  ScaleRounding rounding_;
  const std::string& name_;
  std::int64_t columns_;
  std::int64_t groups_;
  std::int64_t block_;
};

}  // namespace

io::DType weight_type(const QuantizerFormat& format, const ModelSpec& spec, std::string_view where) {
  constexpr std::string_view again =
      "quantize again, for example with --recipe w4a16g32-gguf (pq quantize --for llama.cpp picks one)";
  if (!format.enabled()) return io::DType::f16;
  if (format.two_level) {
    no_place(where, "weight.two_level", "GGUF has no block type with two levels of such scales", again);
  }
  if (!format.symmetric && format.bits > 4) {
    no_place(where, "weight.symmetric", fmt::format("GGUF has no block type for {} bits with zero points", format.bits),
             "quantize again with --set weight.symmetric=true");
  }
  if (!divides(format, spec, 32)) {
    no_place(where, format.granularity == Granularity::group ? "weight.group" : "weight.granularity",
             "GGUF's blocks are 32 columns, and these groups, or a layer's inputs, are no multiple of that",
             "quantize again with --set weight.granularity=group --set weight.group=32");
  }
  if (!format.symmetric) return io::DType::q4_1;
  if (format.bits > 4) return io::DType::q8_0;
  return format.bits == 2 && divides(format, spec, 64) ? io::DType::q2_0 : io::DType::q4_0;
}

std::vector<std::byte> encode_linear(const EncodedLinear& layer, const QuantizerFormat& format, io::DType type,
                                     ScaleRounding rounding, const std::string& name) {
  const Encoder encoder(layer, format, type, rounding, name);
  const std::size_t row_bytes = index(encoder.row_bytes());
  const auto rows = index(layer.shape.out_features);
  std::vector<std::byte> out(rows * row_bytes);
  io::TensorView order;
  order.rope_pairs = layer.rope_pairs;
  parallel_for(rows, rows_at_once, [&](std::size_t begin, std::size_t end) {
    for (std::size_t row = begin; row < end; ++row) {
      const auto number = static_cast<std::int64_t>(row);
      const std::size_t place = index(order.stored_row(number));
      encoder.encode_row(number, reinterpret_cast<std::uint8_t*>(out.data() + place * row_bytes));
    }
  });
  return out;
}

std::vector<float> dequantized(const QuantizedLinear& linear, const LinearShape& shape, const QuantizerFormat& format) {
  const auto rows = index(shape.out_features);
  const auto columns = index(shape.in_features);
  std::vector<float> out(rows * columns);
  const auto groups = index(format.groups(shape.in_features));
  const std::size_t group = groups > 1 ? index(format.group) : columns;
  const std::size_t packed = format.enabled() ? index(packed_row_bytes(shape.in_features, format.bits)) : 0;
  parallel_for(rows, rows_at_once, [&](std::size_t begin, std::size_t end) {
    std::vector<std::int16_t> codes(columns);
    for (std::size_t row = begin; row < end; ++row) {
      float* values = out.data() + row * columns;
      if (!format.enabled()) {
        for (std::size_t i = 0; i < columns; ++i) values[i] = f16_to_float(linear.weight[row * columns + i]);
        continue;
      }
      unpack_row(std::span(linear.codes).subspan(row * packed, packed), format.bits, format.symmetric, codes);
      for (std::size_t first = 0, at = row * groups; first < columns; first += group, ++at) {
        const std::int32_t zero = format.symmetric ? 0 : linear.zero_points[at];
        const std::size_t end_of_group = std::min(first + group, columns);
        // dequantize() of numerics/quantize.h in a loop that the compiler sees through.
        for (std::size_t i = first; i < end_of_group; ++i)
          values[i] = static_cast<float>(codes[i] - zero) * linear.scales[at];
      }
    }
  });
  return out;
}

}  // namespace pq::exchange
