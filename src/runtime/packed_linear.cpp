#include "runtime/packed_linear.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/half.h"
#include "base/index.h"
#include "base/parallel_for.h"
#include "numerics/packing.h"
#include "numerics/quantize.h"

namespace pq::runtime {
namespace {

using kernels::column_block;
using kernels::FloatFormat;
using kernels::panel_channels;

constexpr std::int64_t line_bytes = 64;
constexpr std::string_view again = "quantize the model again";

/// Width of a packed code: 5 to 7 bits are kept in 8.
int packed_bits(int bits) { return bits <= 4 ? bits : 8; }

std::uint32_t load32(const unsigned char* bytes) {
  std::uint32_t word = 0;
  std::memcpy(&word, bytes, sizeof word);
  return word;
}
void store32(unsigned char* bytes, std::uint32_t word) { std::memcpy(bytes, &word, sizeof word); }

std::uint32_t sum_of_bytes(std::uint32_t word) {
  const std::uint32_t pairs = (word & 0x00ff00ffU) + ((word >> 8) & 0x00ff00ffU);
  return (pairs & 0xffffU) + (pairs >> 16);
}
std::uint32_t sum_of_nibbles(std::uint32_t word) {
  return sum_of_bytes((word & 0x0f0f0f0fU) + ((word >> 4) & 0x0f0f0f0fU));
}
std::uint32_t sum_of_crumbs(std::uint32_t word) {
  return sum_of_nibbles((word & 0x33333333U) + ((word >> 2) & 0x33333333U));
}

/// Nibbles 0 1 2 3 4 5 6 7 (columns of two quads) -> 0 4 1 5 2 6 3 7: byte i holds column i of both.
std::uint32_t interleave_nibbles(std::uint32_t w) {
  w = (w & 0xff0000ffU) | ((w & 0x0000ff00U) << 8) | ((w >> 8) & 0x0000ff00U);
  return (w & 0xf00ff00fU) | ((w & 0x00f000f0U) << 4) | ((w >> 4) & 0x00f000f0U);
}
/// 16 two-bit fields (columns of four quads), transposed as a 4 x 4 matrix: byte i holds column i of each quad.
std::uint32_t transpose_crumbs(std::uint32_t w) {
  std::uint32_t moved = ((w >> 6) ^ w) & 0x00cc00ccU;
  w ^= moved ^ (moved << 6);
  moved = ((w >> 12) ^ w) & 0x0000f0f0U;
  return w ^ moved ^ (moved << 12);
}

/// 32 codes of one channel, `4 * Bits` bytes of the checkpoint's bit stream, into the lines of a block. `target` is the
/// channel's word in the first line. Returns the sum of the codes.
template <int Bits>
std::uint32_t pack_block(const unsigned char* source, unsigned char* target) {
  std::uint32_t sum = 0;
  if constexpr (Bits == 8) {
    for (int line = 0; line < 8; ++line) {
      const std::uint32_t word = load32(source + 4 * line);
      sum += sum_of_bytes(word);
      store32(target + line_bytes * line, word);
    }
  } else if constexpr (Bits == 4) {
    for (int line = 0; line < 4; ++line) {
      const std::uint32_t word = load32(source + 4 * line);
      sum += sum_of_nibbles(word);
      store32(target + line_bytes * line, interleave_nibbles(word));
    }
  } else if constexpr (Bits == 2) {
    for (int line = 0; line < 2; ++line) {
      const std::uint32_t word = load32(source + 4 * line);
      sum += sum_of_crumbs(word);
      store32(target + line_bytes * line, transpose_crumbs(word));
    }
  } else {
    std::array<std::uint32_t, 8> words{};
    for (int eight = 0; eight < 4; ++eight) {  // 8 codes take Bits whole bytes
      std::uint64_t stream = 0;
      std::memcpy(&stream, source + Bits * eight, Bits);
      for (int i = 0; i < 8; ++i) {
        const auto code = static_cast<std::uint32_t>(stream >> (Bits * i)) & ((1U << Bits) - 1U);
        const int quad = 2 * eight + i / 4;
        const int byte = 8 * (i % 4);
        sum += code;
        if constexpr (Bits == 3) {
          words[index(quad / 4)] |= (code & 3U) << (byte + 2 * (quad % 4));
          words[2] |= (code >> 2) << (byte + quad);
        } else {
          words[index(quad)] |= code << byte;
        }
      }
    }
    for (int line = 0; line < (Bits == 3 ? 3 : 8); ++line) store32(target + line_bytes * line, words[index(line)]);
  }
  return sum;
}

/// One panel of 16 rows (fewer in the last one); sums [segments][16] gets the sums of the codes.
template <int Bits>
void pack_panel(const QuantizedSource& source, const SegmentPlan& plan, std::int64_t panel, unsigned char* target,
                std::int32_t* sums) {
  constexpr std::int64_t source_bytes = 4 * Bits;
  constexpr std::int64_t target_bytes = (Bits <= 4 ? Bits : 8) * line_bytes;
  constexpr std::int64_t together = 4;  // blocks, so that a row is read by the cache line
  const std::int64_t row_bytes = packed_row_bytes(plan.columns, Bits);
  const std::int64_t rows = std::min(panel_channels, source.shape.out_features - panel * panel_channels);
  const std::int64_t whole = plan.columns / column_block;
  const std::int64_t segment_blocks = plan.segment / column_block;
  const auto* first_row =
      reinterpret_cast<const unsigned char*>(source.codes.data()) + panel * panel_channels * row_bytes;
  for (std::int64_t first = 0; first < whole; first += together) {
    const std::int64_t last = std::min(first + together, whole);
    for (std::int64_t row = 0; row < rows; ++row) {
      for (std::int64_t block = first; block < last; ++block) {
        const std::uint32_t sum = pack_block<Bits>(first_row + row * row_bytes + block * source_bytes,
                                                   target + block * target_bytes + 4 * row);
        sums[block / segment_blocks * panel_channels + row] += static_cast<std::int32_t>(sum);
      }
    }
  }
  const std::int64_t rest = plan.columns % column_block;
  if (rest == 0) return;
  const std::int64_t rest_bytes = (rest * Bits + 7) / 8;
  for (std::int64_t row = 0; row < rows; ++row) {
    std::array<unsigned char, 4 * Bits + 8> tail{};
    std::memcpy(tail.data(), first_row + row * row_bytes + whole * source_bytes, index(rest_bytes));
    if (rest * Bits % 8 != 0) tail[index(rest_bytes - 1)] &= static_cast<unsigned char>((1U << (rest * Bits % 8)) - 1U);
    const std::uint32_t sum = pack_block<Bits>(tail.data(), target + whole * target_bytes + 4 * row);
    sums[whole / segment_blocks * panel_channels + row] += static_cast<std::int32_t>(sum);
  }
}

using PackPanel = void (*)(const QuantizedSource&, const SegmentPlan&, std::int64_t, unsigned char*, std::int32_t*);
constexpr std::array<PackPanel, 9> pack_panels{nullptr,       nullptr,       pack_panel<2>,
                                               pack_panel<3>, pack_panel<4>, pack_panel<5>,
                                               pack_panel<6>, pack_panel<7>, pack_panel<8>};

void check_sizes(const QuantizedSource& source) {
  const std::int64_t codes = source.shape.out_features * packed_row_bytes(source.shape.in_features, source.format.bits);
  const std::int64_t scales = source.shape.out_features * source.groups();
  const auto expect = [&](std::size_t found, std::int64_t expected, std::string_view what) {
    if (found == index(expected)) return;
    throw FormatError(source.where, fmt::format("has {} {}, its shape asks for {}", found, what, expected), again);
  };
  expect(source.codes.size(), codes, "bytes of codes");
  expect(source.scales.size(), scales, "scales");
  if (!source.format.symmetric) expect(source.zero_points.size(), scales, "zero points");
  if (!source.bias.empty()) expect(source.bias.size(), source.shape.out_features, "biases");
}

void check_weight_shape(const io::TensorView& weight, std::span<const float> bias) {
  const bool right = weight.shape.size() == 2 && weight.shape[0] > 0 && weight.shape[1] > 0 &&
                     (bias.empty() || bias.size() == index(weight.shape[0]));
  if (!right) {
    throw FormatError(
        fmt::format("{}: tensor '{}'", weight.file, weight.name),
        fmt::format("{} is no matrix that fits its bias of {}", io::shape_text(weight.shape), bias.size()));
  }
}

std::uint32_t exponent_mask(FloatFormat format) {
  if (format == FloatFormat::f32) return 0x7f800000U;
  return format == FloatFormat::f16 ? 0x7c00U : 0x7f80U;
}

}  // namespace

std::int64_t QuantizedSource::groups() const { return format.groups(shape.in_features); }

std::int32_t QuantizedSource::zero(std::int64_t channel, std::int64_t group) const {
  return format.symmetric ? 1 << (format.bits - 1) : zero_points[index(channel * groups() + group)];
}

bool sums_fit(const QuantizedSource& source, const SegmentPlan& plan) {
  const std::int32_t high = (1 << source.format.bits) - 1;
  std::int64_t far = 1 << (source.format.bits - 1);
  for (const std::int16_t zero : source.zero_points)
    far = std::max<std::int64_t>({far, std::abs(zero), std::abs(high - zero)});
  return plan.segment * far * plan.code_bound < std::int64_t{1} << 31;
}

void PackedLinear::set_bias(std::span<const float> bias, std::int64_t panels) {
  if (bias.empty()) return;
  bias_ = AlignedBuffer::of<float>(index(panels * panel_channels));
  std::copy(bias.begin(), bias.end(), bias_.as<float>().begin());
}

void PackedLinear::make_int_weights(std::int64_t channels, const SegmentPlan& plan, int bits,
                                    std::optional<std::int32_t> common_zero) {
  integer_ = true;
  const std::int64_t panels = (channels + panel_channels - 1) / panel_channels;
  const std::int64_t panel_bytes = kernels::panel_bytes(plan.padded, bits);
  const std::int64_t parameters = panels * plan.segments * panel_channels;
  storage_ = AlignedBuffer(index(panels * panel_bytes));
  parameters_ = AlignedBuffer::of<std::int32_t>(index((common_zero ? 2 : 3) * parameters));
  auto* numbers = parameters_.data();
  codes_ = {.codes = reinterpret_cast<std::uint8_t*>(storage_.data()),
            .scale = reinterpret_cast<float*>(numbers),
            .zero = common_zero ? nullptr : reinterpret_cast<std::int32_t*>(numbers + 8 * parameters),
            .common_zero = common_zero.value_or(0),
            .sum = reinterpret_cast<std::int32_t*>(numbers + 4 * parameters),
            .bias = bias_.empty() ? nullptr : bias_.as<float>().data(),
            .channels = channels,
            .panels = panels,
            .panel_bytes = panel_bytes,
            .columns = plan.padded,
            .segment = plan.segment,
            .segments = plan.segments,
            .bits = bits};
}

PackedLinear PackedLinear::pack_codes(const QuantizedSource& source, const SegmentPlan& plan) {
  check_sizes(source);
  if (!plan.integer || !sums_fit(source, plan)) {
    throw UnsupportedError(source.where, "its codes and zero points do not fit 32-bit sums", again);
  }
  PackedLinear packed;
  const std::int64_t channels = source.shape.out_features;
  packed.set_bias(source.bias, (channels + panel_channels - 1) / panel_channels);
  const auto common_zero = source.format.symmetric ? std::optional(source.zero(0, 0)) : std::nullopt;
  packed.make_int_weights(channels, plan, packed_bits(source.format.bits), common_zero);
  auto* codes = reinterpret_cast<unsigned char*>(packed.storage_.data());
  const std::size_t count = index(packed.codes_.panels * plan.segments * panel_channels);
  const std::span<float> scales = packed.parameters_.as<float>().first(count);
  const std::span<std::int32_t> sums = packed.parameters_.as<std::int32_t>().subspan(count, count);
  const std::span<std::int32_t> zeros = packed.parameters_.as<std::int32_t>().subspan(2 * count);
  const std::int64_t groups = source.groups();
  const auto pack = [&](std::size_t begin, std::size_t end, std::size_t /*thread*/) {
    for (auto panel = static_cast<std::int64_t>(begin); panel < static_cast<std::int64_t>(end); ++panel) {
      const std::int64_t first = panel * plan.segments * panel_channels;
      pack_panels[index(source.format.bits)](source, plan, panel, codes + panel * packed.codes_.panel_bytes,
                                             sums.data() + first);
      for (std::int64_t segment = 0; segment < plan.segments; ++segment) {
        const std::int64_t first_column = segment * plan.segment;
        const std::int64_t columns = std::min(plan.segment, plan.columns - first_column);
        const std::int64_t group = groups == 1 ? 0 : first_column / source.format.group;
        for (std::int64_t i = 0; i < panel_channels && panel * panel_channels + i < channels; ++i) {
          const std::int64_t channel = panel * panel_channels + i;
          const std::size_t at = index(first + segment * panel_channels + i);
          scales[at] = source.scales[index(channel * groups + group)];
          const std::int32_t zero = source.zero(channel, group);
          sums[at] -= static_cast<std::int32_t>(columns) * zero;
          if (!zeros.empty()) zeros[at] = zero;
        }
      }
    }
  };
  parallel_ranges(index(packed.codes_.panels), 1, Split::fine, pack);
  return packed;
}

PackedLinear PackedLinear::dequantize(const QuantizedSource& source) {
  check_sizes(source);
  PackedLinear packed;
  const std::int64_t channels = source.shape.out_features;
  const std::int64_t columns = source.shape.in_features;
  const std::int64_t even = round_up(columns, 2);
  const std::int64_t panels = (channels + panel_channels - 1) / panel_channels;
  packed.set_bias(source.bias, panels);
  packed.storage_ = AlignedBuffer::of<float>(index(panels * even * panel_channels));
  const std::span<float> values = packed.storage_.as<float>();
  const int bits = source.format.bits;
  const std::int64_t row_bytes = packed_row_bytes(columns, bits);
  const std::int64_t group = source.groups() == 1 ? columns : source.format.group;
  const auto unpack = [&](std::size_t begin, std::size_t end, std::size_t /*thread*/) {
    std::vector<std::int32_t> codes(index(columns));
    for (std::size_t row = begin; row < end; ++row) {
      const auto channel = static_cast<std::int64_t>(row);
      const auto* bytes = reinterpret_cast<const std::uint8_t*>(source.codes.data()) + channel * row_bytes;
      unpack_row({bytes, index(row_bytes)}, bits, false, codes);
      float* out = values.data() + channel / panel_channels * even * panel_channels + channel % panel_channels;
      for (std::int64_t c = 0; c < columns; ++c) {
        const float scale = source.scales[index(channel * source.groups() + c / group)];
        out[c * panel_channels] = pq::dequantize(codes[index(c)], scale, source.zero(channel, c / group));
      }
    }
  };
  parallel_ranges(index(channels), panel_channels, Split::fine, unpack);
  packed.floats_ = {values.data(), packed.bias_.empty() ? nullptr : packed.bias_.as<float>().data(),
                    channels,      panels,
                    even,          FloatFormat::f32};
  return packed;
}

template <typename T>
PackedLinear PackedLinear::pack_elements(const io::TensorView& weight, FloatFormat format,
                                         std::span<const float> bias) {
  constexpr std::int64_t tile = 32;
  PackedLinear packed;
  const std::int64_t channels = weight.shape[0];
  const std::int64_t columns = weight.shape[1];
  const std::int64_t even = round_up(columns, 2);
  const std::int64_t panels = (channels + panel_channels - 1) / panel_channels;
  packed.set_bias(bias, panels);
  packed.storage_ = AlignedBuffer::of<T>(index(panels * even * panel_channels));
  T* values = packed.storage_.as<T>().data();
  const bool pairs = format == FloatFormat::bf16;
  const bool convert = weight.dtype == io::DType::f64 || io::is_block_type(weight.dtype);
  std::atomic<bool> finite = true;
  const auto pack = [&](std::size_t begin, std::size_t end, std::size_t /*thread*/) {
    using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint16_t>;
    const auto exponent = static_cast<Bits>(exponent_mask(format));
    std::vector<float> row(convert ? index(columns) : 0);
    std::vector<T> converted(row.size());
    bool bad = false;
    for (auto panel = static_cast<std::int64_t>(begin); panel < static_cast<std::int64_t>(end); ++panel) {
      T* out = values + panel * even * panel_channels;
      for (std::int64_t i = 0; i < panel_channels && panel * panel_channels + i < channels; ++i) {
        const std::int64_t channel = panel * panel_channels + i;
        const std::byte* source = nullptr;
        if (convert) {
          io::rows_to_float32(weight, channel, 1, row);
          std::transform(row.begin(), row.end(), converted.begin(), [](float value) {
            if constexpr (sizeof(T) == 2) return float_to_bf16(value);
            return static_cast<T>(value);
          });
          source = reinterpret_cast<const std::byte*>(converted.data());
        } else {
          source = weight.bytes.data() + weight.stored_row(channel) * columns * static_cast<std::int64_t>(sizeof(T));
        }
        for (std::int64_t first = 0; first < columns; first += tile) {
          std::array<T, tile> part{};
          const std::int64_t count = std::min(tile, columns - first);
          std::memcpy(part.data(), source + first * static_cast<std::int64_t>(sizeof(T)), index(count) * sizeof(T));
          for (std::int64_t c = 0; c < count; ++c) {
            const T value = part[index(c)];
            bad |= (std::bit_cast<Bits>(value) & exponent) == exponent;
            const std::int64_t at = first + c;
            out[pairs ? (at / 2 * panel_channels + i) * 2 + at % 2 : at * panel_channels + i] = value;
          }
        }
      }
    }
    if (bad) finite = false;
  };
  parallel_ranges(index(panels), 1, Split::fine, pack);
  if (!finite) io::refuse_not_finite(weight);
  packed.floats_ = {values, packed.bias_.empty() ? nullptr : packed.bias_.as<float>().data(), channels, panels, even,
                    format};
  return packed;
}

PackedLinear PackedLinear::pack_floats(const io::TensorView& weight, std::span<const float> bias) {
  check_weight_shape(weight, bias);
  if (weight.round_to_bf16) return pack_elements<std::uint16_t>(weight, FloatFormat::bf16, bias);
  switch (weight.dtype) {
    case io::DType::f16:
      return pack_elements<std::uint16_t>(weight, FloatFormat::f16, bias);
    case io::DType::bf16:
      return pack_elements<std::uint16_t>(weight, FloatFormat::bf16, bias);
    default:
      return pack_elements<float>(weight, FloatFormat::f32, bias);
  }
}

PackedLinear PackedLinear::pack_rows_to_8_bits(const io::TensorView& weight, const kernels::KernelTable& table) {
  check_weight_shape(weight, {});
  PackedLinear packed;
  const std::int64_t channels = weight.shape[0];
  const std::int64_t columns = weight.shape[1];
  const SegmentPlan plan = plan_8_bit_rows(columns);
  packed.make_int_weights(channels, plan, 8, 128);
  auto* codes = reinterpret_cast<unsigned char*>(packed.storage_.data());
  const std::size_t count = packed.parameters_.as<std::int32_t>().size() / 2;
  float* scales = packed.parameters_.as<float>().data();
  std::int32_t* sums = packed.parameters_.as<std::int32_t>().data() + count;
  const kernels::QuantizeRow spec{.kind = kernels::ScaleKind::row,
                                  .planes = 1,
                                  .bits = 8,
                                  .symmetric = true,
                                  .scale = 1,
                                  .zero = 0,
                                  .gamma = 1,
                                  .beta = 1,
                                  .columns = columns,
                                  .padded = plan.padded,
                                  .segment = plan.segment,
                                  .segments = plan.segments};
  std::atomic<bool> finite = true;
  const auto pack = [&](std::size_t begin, std::size_t end, std::size_t /*thread*/) {
    AlignedBuffer row = AlignedBuffer::of<float>(index(plan.padded));
    AlignedBuffer row_codes(index(plan.padded));
    AlignedBuffer halves = AlignedBuffer::of<std::uint16_t>(index(columns));
    std::vector<float> scale(index(plan.segments));
    std::vector<std::int32_t> zero(index(plan.segments));
    std::vector<std::int32_t> sum(index(plan.segments));
    const kernels::QuantizedRow out{row_codes.as<std::int8_t>().data(), 0, scale.data(), zero.data(), sum.data()};
    float* values = row.as<float>().data();
    for (std::size_t channel = begin; channel < end; ++channel) {
      if (weight.dtype == io::DType::f16 || weight.dtype == io::DType::bf16) {
        const auto stored = index(weight.stored_row(static_cast<std::int64_t>(channel)));
        std::memcpy(halves.data(), weight.bytes.data() + stored * halves.size(), halves.size());
        const auto convert = weight.dtype == io::DType::f16 ? table.f16_to_float : table.bf16_to_float;
        convert(halves.as<std::uint16_t>().data(), columns, values);
      } else {
        io::rows_to_float32(weight, static_cast<std::int64_t>(channel), 1, {values, index(columns)});
      }
      table.quantize_row(values, spec, out);
      if (!std::isfinite(scale[0])) finite = false;
      const std::size_t panel = channel / index(panel_channels);
      const std::size_t lane = channel % index(panel_channels);
      unsigned char* target = codes + panel * index(packed.codes_.panel_bytes) + 4 * lane;
      const auto* source = reinterpret_cast<const unsigned char*>(row_codes.data());
      for (std::size_t quad = 0; quad < index(plan.padded) / 4; ++quad) {
        store32(target + index(line_bytes) * quad, load32(source + 4 * quad) ^ 0x80808080U);
      }
      for (std::size_t segment = 0; segment < index(plan.segments); ++segment) {
        const std::size_t at = (panel * index(plan.segments) + segment) * index(panel_channels) + lane;
        scales[at] = scale[segment];
        sums[at] = sum[segment];
      }
    }
  };
  parallel_ranges(index(channels), index(panel_channels), Split::fine, pack);
  if (!finite) io::refuse_not_finite(weight);
  return packed;
}

}  // namespace pq::runtime
