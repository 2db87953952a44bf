#include "runtime/packed_linear.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/half.h"
#include "base/index.h"
#include "base/parallel_for.h"
#include "numerics/packing.h"
#include "numerics/quantize.h"
#include "runtime/pack_panel.h"

namespace pq::runtime {
namespace {

using kernels::FloatFormat;
using kernels::panel_channels;

constexpr std::int64_t line_bytes = 64;

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

void PackedLinear::set_bias(std::span<const float> bias, std::int64_t panels) {
  if (bias.empty()) return;
  bias_ = AlignedBuffer::of<float>(index(panels * panel_channels));
  std::copy(bias.begin(), bias.end(), bias_.as<float>().begin());
}

void PackedLinear::make_int_weights(std::int64_t channels, const SegmentPlan& plan, int bits,
                                    std::optional<std::int32_t> common_zero, std::int64_t group) {
  integer_ = true;
  const std::int64_t panels = (channels + panel_channels - 1) / panel_channels;
  const std::int64_t parameters = panels * plan.segments * panel_channels;
  // Group scales stand behind the codes of all panels: codes without holes are what a processor fetches ahead best.
  const std::int64_t groups = group == 0 ? 0 : (plan.padded + group - 1) / group;
  const std::int64_t group_bytes = round_up(groups * panel_channels, line_bytes);
  const std::int64_t panel_bytes = kernels::panel_bytes(plan.padded, bits);
  storage_ = AlignedBuffer(index(panels * (panel_bytes + group_bytes)));
  parameters_ = AlignedBuffer::of<std::int32_t>(index((common_zero ? 2 : 3) * parameters));
  auto* numbers = parameters_.data();
  auto* bytes = reinterpret_cast<std::uint8_t*>(storage_.data());
  codes_ = {.codes = bytes,
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
            .bits = bits,
            .group_scales = groups == 0 ? nullptr : bytes + panels * panel_bytes,
            .group = group,
            .group_bytes = group_bytes};
}

PackedLinear PackedLinear::pack_codes(const QuantizedSource& source, const SegmentPlan& plan) {
  source.check();
  if (!plan.integer || !sums_fit(source, plan)) {
    throw UnsupportedError(source.where, "its codes and zero points do not fit 32-bit sums",
                           "quantize the model again");
  }
  PackedLinear packed;
  const QuantizerFormat& format = source.format;
  const std::int64_t channels = source.shape.out_features;
  packed.set_bias(source.bias, (channels + panel_channels - 1) / panel_channels);
  std::optional<std::int32_t> common_zero;
  if (format.symmetric) common_zero = source.zero(0, 0);
  if (format.two_level) common_zero = 128;
  packed.make_int_weights(channels, plan, packed_bits(format.bits), common_zero, format.two_level ? format.group : 0);
  const kernels::IntWeights& weights = packed.codes_;
  const std::size_t count = index(weights.panels * plan.segments * panel_channels);
  const std::span<float> scales = packed.parameters_.as<float>().first(count);
  const std::span<std::int32_t> sums = packed.parameters_.as<std::int32_t>().subspan(count, count);
  const std::span<std::int32_t> zeros = packed.parameters_.as<std::int32_t>().subspan(2 * count);
  const CodeRows rows{source.codes.data(), channels, plan.columns, format.bits};
  const std::int64_t groups = source.groups();
  const std::int64_t part = format.two_level ? std::min(plan.segment, format.group) : plan.segment;
  const std::int64_t parts = (plan.padded + part - 1) / part;
  const auto pack = [&](std::size_t begin, std::size_t end, std::size_t /*thread*/) {
    std::vector<std::int32_t> part_sums(index(parts * panel_channels));
    for (auto panel = static_cast<std::int64_t>(begin); panel < static_cast<std::int64_t>(end); ++panel) {
      std::uint8_t* const bytes = packed.panel_codes(panel);
      std::fill(part_sums.begin(), part_sums.end(), 0);
      pack_panel(rows, panel, part, bytes, part_sums.data());
      const std::int64_t first_channel = panel * panel_channels;
      const std::int64_t lanes = std::min(panel_channels, channels - first_channel);
      for (std::int64_t p = 0; p < parts; ++p) {
        const std::int64_t columns = std::min(part, plan.columns - p * part);
        const std::int64_t segment = p * part / plan.segment;
        const std::int64_t group = groups == 1 ? 0 : p * part / format.group;
        for (std::int64_t lane = 0; lane < lanes; ++lane) {
          const std::int64_t channel = first_channel + lane;
          const std::size_t at = index((panel * plan.segments + segment) * panel_channels + lane);
          const std::int32_t zero = source.zero(channel, group);
          const std::int32_t group_scale = source.group_scale(channel, group);
          sums[at] +=
              (part_sums[index(p * panel_channels + lane)] - static_cast<std::int32_t>(columns) * zero) * group_scale;
          scales[at] = source.float_scale(channel, group);
          if (!zeros.empty()) zeros[at] = zero;
          if (format.two_level) {
            packed.panel_groups(panel)[group * panel_channels + lane] =
                static_cast<std::uint8_t>((group_scale - 1) | zero << 4);
          }
        }
      }
    }
  };
  parallel_ranges(index(weights.panels), 1, Split::fine, pack);
  return packed;
}

PackedLinear PackedLinear::dequantize(const QuantizedSource& source) {
  source.check();
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
        out[c * panel_channels] =
            pq::dequantize(codes[index(c)], source.scale(channel, c / group), source.zero(channel, c / group));
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
      std::uint8_t* target = packed.panel_codes(static_cast<std::int64_t>(panel)) + 4 * lane;
      for (const std::uint32_t quad : row_codes.as<std::uint32_t>()) {
        const std::uint32_t stored = quad ^ 0x80808080U;
        std::memcpy(target, &stored, sizeof stored);
        target += line_bytes;
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

kernels::IntWeights PackedLinear::codes(std::int64_t first, std::int64_t last) const {
  kernels::IntWeights part = codes_;
  const std::int64_t values = first * codes_.segments * panel_channels;
  part.codes += first * codes_.panel_bytes;
  if (part.group_scales != nullptr) part.group_scales += first * codes_.group_bytes;
  part.scale += values;
  if (part.zero != nullptr) part.zero += values;
  part.sum += values;
  if (part.bias != nullptr) part.bias += first * panel_channels;
  part.panels = last - first;
  part.channels = std::min(codes_.channels - first * panel_channels, part.panels * panel_channels);
  return part;
}

kernels::FloatWeights PackedLinear::floats(std::int64_t first, std::int64_t last) const {
  kernels::FloatWeights part = floats_;
  part.values = static_cast<const std::byte*>(floats_.values) +
                first * floats_.columns * panel_channels * kernels::bytes_of(floats_.format);
  if (part.bias != nullptr) part.bias += first * panel_channels;
  part.panels = last - first;
  part.channels = std::min(floats_.channels - first * panel_channels, part.panels * panel_channels);
  return part;
}

}  // namespace pq::runtime
