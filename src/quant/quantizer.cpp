#include "quant/quantizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "base/error.h"
#include "base/parallel_for.h"
#include "numerics/packing.h"
#include "numerics/quantize.h"
#include "numerics/scale_type.h"
#include "numerics/two_level.h"
#include "quant/two_level.h"

namespace pq::quant {
namespace {

double level_count(const QuantizerFormat& format) { return std::ldexp(1.0, format.bits) - 1; }

ScaleTensors two_level_scales(const at::Tensor& low, const at::Tensor& high, const at::Tensor& channel) {
  const GroupScaleTensors groups = group_scales(low, high, channel);
  return {channel * groups.scale, groups.zero_point, channel};
}

/// A divisor as a tensor on the device: CUDA would multiply by the reciprocal of a plain number.
at::Tensor scalar_like(float value, const at::Tensor& like) { return at::full({}, value, like.options()); }

bool has_short_scales(const QuantizerFormat& format) { return format.scale_type != ScaleType::float32; }

/// nearest_scale() of numerics/scale_type.h.
at::Tensor nearest_scales(const at::Tensor& scale, const QuantizerFormat& format) {
  const ScaleGrid grid = scale_grid(format.scale_type, format.bits, format.symmetric);
  const at::Tensor held = scale.clamp_max(grid.largest);
  const at::Tensor power = held / std::get<0>(at::frexp(held));  // of two, above `held`
  const at::Tensor unit = (power * std::ldexp(1.0, -grid.digits)).clamp_min(grid.smallest);
  return ((scale / unit).round() * unit).clamp(grid.smallest, grid.largest);
}

}  // namespace

ScaleTensors slice_scales(const at::Tensor& min, const at::Tensor& max, const at::Tensor& gamma, const at::Tensor& beta,
                          const QuantizerFormat& format) {
  if (format.symmetric) {
    const at::Tensor clipped = at::maximum(min.neg(), max) * gamma;
    const at::Tensor scale = clipped / scalar_like(static_cast<float>(level_count(format) / 2), clipped);
    const at::Tensor safe = at::where(scale == 0, at::ones_like(scale), scale);
    return {has_short_scales(format) ? nearest_scales(safe, format) : safe, {}};
  }
  at::Tensor low = min * beta;
  at::Tensor high = max * gamma;
  if (has_short_scales(format)) {
    low = low.clamp_max(0);
    high = high.clamp_min(0);
  }
  const at::Tensor steps = scalar_like(static_cast<float>(level_count(format)), low);
  const at::Tensor scale = at::maximum((high - low) / steps, low.abs() / scalar_like(32767.0F, low));
  const at::Tensor safe = at::where(scale == 0, at::ones_like(scale), scale);
  if (!has_short_scales(format)) return {safe, (low.neg() / safe).round()};
  const at::Tensor held = nearest_scales(safe, format);
  return {held, (low.neg() / held).round().clamp(0, level_count(format))};
}

at::Tensor quantize(const at::Tensor& x, const ScaleTensors& scales, const QuantizerFormat& format) {
  const QuantRange range = quant_range(format.bits, format.symmetric);
  at::Tensor codes = (x / scales.scale).round_();
  if (scales.zero_point.defined()) codes.add_(scales.zero_point);
  return codes.clamp_(range.low, range.high);
}

at::Tensor dequantize(const at::Tensor& codes, const ScaleTensors& scales) {
  if (!scales.zero_point.defined()) return codes * scales.scale;
  return (codes - scales.zero_point).mul_(scales.scale);
}

at::Tensor fake_quantize(const at::Tensor& x, const ScaleTensors& scales, const QuantizerFormat& format) {
  at::Tensor codes = quantize(x, scales, format);
  if (scales.zero_point.defined()) codes.sub_(scales.zero_point);
  return codes.mul_(scales.scale);
}

SiteQuantizer static_site_quantizer(const ScaleTensors& scales) {
  SiteQuantizer result;
  result.scale = to_floats(scales.scale);
  if (scales.zero_point.defined()) {
    for (const float zero : to_floats(scales.zero_point))
      result.zero_point.push_back(static_cast<std::int16_t>(std::lround(zero)));
  }
  return result;
}

MinMaxTensors static_slices(Site site, const at::Tensor& x) {
  if (!is_kv(site)) return {x.amin().reshape({1}), x.amax().reshape({1})};
  const at::Tensor heads = x.flatten(0, -3);  // [tokens, kv_heads, head_dim]
  return {heads.amin({0, 2}), heads.amax({0, 2})};
}

MinMaxTensors merge(const MinMaxTensors& a, const MinMaxTensors& b) {
  if (!a.min.defined()) return b;
  return {at::minimum(a.min, b.min), at::maximum(a.max, b.max)};
}

ScaleTensors range_scales(const MinMaxTensors& range, const at::Tensor& factor, const QuantizerFormat& format) {
  return slice_scales(range.min, range.max, factor, factor, format);
}

SiteQuantizer static_site_quantizer(const MinMaxTensors& range, const at::Tensor& factor,
                                    const QuantizerFormat& format) {
  return static_site_quantizer(range_scales(range, factor, format));
}

SiteQuantizer fixed_site_quantizer(const MinMaxTensors& range, const QuantizerFormat& format) {
  if (!format.enabled()) return {};
  const auto factor = static_cast<float>(format.clip);
  if (format.is_static()) return static_site_quantizer(range, at::full_like(range.max, factor), format);
  SiteQuantizer result;
  result.clip = {factor, factor};
  return result;
}

at::Tensor fixed_clip(const at::Tensor& weight, const QuantizerFormat& format) {
  return at::full({weight.size(0), format.groups(weight.size(1))}, format.clip, weight.options());
}

SiteFakeQuantizer::SiteFakeQuantizer(Site site, const QuantizerFormat& format, const SiteQuantizer& parameters,
                                     const at::TensorOptions& options)
    : site_(site), format_(format), gamma_(parameters.clip[0]), beta_(parameters.clip[1]) {
  if (!format.enabled() || !format.is_static()) return;
  const auto count = static_cast<std::int64_t>(parameters.scale.size());
  scales_.scale = from_floats(parameters.scale, {count}, options);
  if (!format.symmetric) {
    scales_.zero_point = from_floats({parameters.zero_point.begin(), parameters.zero_point.end()}, {count}, options);
  }
}

SiteFakeQuantizer::SiteFakeQuantizer(Site site, const QuantizerFormat& format, ScaleTensors scales)
    : site_(site), format_(format), scales_(std::move(scales)) {}

SiteFakeQuantizer::SiteFakeQuantizer(Site site, const QuantizerFormat& format, float gamma, float beta)
    : site_(site), format_(format), gamma_(gamma), beta_(beta) {}

at::Tensor SiteFakeQuantizer::operator()(const at::Tensor& x) const {
  if (!format_.enabled()) return x;
  if (!format_.is_static()) return dynamic(x);
  if (!is_kv(site_)) return fake_quantize(x, scales_, format_);
  ScaleTensors heads{scales_.scale.unsqueeze(-1), {}};  // [kv_heads, 1] against [.., kv_heads, head_dim]
  if (scales_.zero_point.defined()) heads.zero_point = scales_.zero_point.unsqueeze(-1);
  return fake_quantize(x, heads, format_);
}

at::Tensor SiteFakeQuantizer::dynamic_slices(const at::Tensor& slices) const {
  const at::Tensor min = slices.amin(-1, true);
  const at::Tensor max = slices.amax(-1, true);
  return fake_quantize(slices, slice_scales(min, max, scalar_like(gamma_, min), scalar_like(beta_, min), format_),
                       format_);
}

at::Tensor SiteFakeQuantizer::dynamic(const at::Tensor& x) const {
  switch (format_.granularity) {
    case Granularity::tensor: {
      // [rows, in] is a sample of one sequence, or one sequence.
      const at::Tensor flat = x.reshape({x.dim() > 2 ? x.size(0) : 1, -1});
      return dynamic_slices(flat).reshape(x.sizes());
    }
    case Granularity::group: {
      const std::int64_t columns = x.size(-1);
      const std::int64_t group = std::min(format_.group, columns);
      const std::int64_t whole = columns / group * group;
      const auto grouped = [&](const at::Tensor& part, std::int64_t size) {
        std::vector<std::int64_t> shape = part.sizes().vec();
        const std::vector<std::int64_t> before = shape;
        shape.back() /= size;
        shape.push_back(size);
        return dynamic_slices(part.reshape(shape)).reshape(before);
      };
      if (whole == columns) return grouped(x, group);
      return at::cat(
          {grouped(x.narrow(-1, 0, whole), group), grouped(x.narrow(-1, whole, columns - whole), columns - whole)}, -1);
    }
    default:
      break;
  }
  if (!is_kv(site_)) return dynamic_slices(x);
  return dynamic_slices(x.flatten(-2)).reshape(x.sizes());  // all heads of a token
}

at::Tensor split_groups(const at::Tensor& weight, const QuantizerFormat& format) {
  const std::int64_t in_features = weight.size(1);
  const std::int64_t groups = format.groups(in_features);
  if (groups == 1) return weight.unsqueeze(1);
  const std::int64_t missing = groups * format.group - in_features;
  at::Tensor whole = weight;
  if (missing > 0) whole = at::cat({weight, weight.narrow(1, in_features - 1, 1).expand({-1, missing})}, 1);
  return whole.reshape({weight.size(0), groups, format.group});
}

at::Tensor join_groups(const at::Tensor& grouped, std::int64_t in_features) {
  return grouped.flatten(1).narrow(1, 0, in_features).contiguous();
}

ScaleTensors weight_scales(const at::Tensor& weight, const at::Tensor& clip, const QuantizerFormat& format) {
  const at::Tensor grouped = split_groups(weight, format);
  const at::Tensor min = grouped.amin(-1);
  const at::Tensor max = grouped.amax(-1);
  if (!format.two_level) return slice_scales(min, max, clip, clip, format);
  return two_level_scales(min * clip, max * clip, channel_scales(weight));
}

ScaleTensors group_scale_candidates(const at::Tensor& min, const at::Tensor& max, const at::Tensor& gamma,
                                    const at::Tensor& beta, const at::Tensor& channel, const QuantizerFormat& format) {
  if (!format.two_level) return slice_scales(min, max, gamma, beta, format);
  return two_level_scales(min * beta, max * gamma, channel.squeeze(1));
}

ScaleTensors snapped(const ScaleTensors& scales, const QuantizerFormat& format) {
  if (has_short_scales(format)) {
    return {nearest_scales(scales.scale, format),
            scales.zero_point.defined() ? scales.zero_point.clamp(0, level_count(format)) : at::Tensor()};
  }
  if (!format.two_level) return scales;
  if (!scales.channel.defined()) throw std::logic_error("two-level scales came without their channel scales");
  return two_level_scales(scales.zero_point.neg() * scales.scale,
                          (two_level::largest_code - scales.zero_point) * scales.scale, scales.channel);
}

at::Tensor whole_group_scales(const ScaleTensors& scales) { return (scales.scale / scales.channel).round(); }

WeightCodes quantize_weight(const at::Tensor& weight, const at::Tensor& clip, const QuantizerFormat& format) {
  const ScaleTensors scales = weight_scales(weight, clip, format);
  return {quantize_with_scales(weight, scales, format), scales};
}

at::Tensor quantize_with_scales(const at::Tensor& weight, const ScaleTensors& scales, const QuantizerFormat& format) {
  ScaleTensors broadcast{scales.scale.unsqueeze(-1), {}};
  if (scales.zero_point.defined()) broadcast.zero_point = scales.zero_point.unsqueeze(-1);
  return join_groups(quantize(split_groups(weight, format), broadcast, format), weight.size(1));
}

at::Tensor dequantize_weight(const WeightCodes& codes, const QuantizerFormat& format) {
  ScaleTensors broadcast{codes.scales.scale.unsqueeze(-1), {}};
  if (codes.scales.zero_point.defined()) broadcast.zero_point = codes.scales.zero_point.unsqueeze(-1);
  return join_groups(dequantize(split_groups(codes.codes, format), broadcast), codes.codes.size(1));
}

QuantizedLinear pack_linear(const WeightCodes& codes, const at::Tensor& bias, const QuantizerFormat& format) {
  QuantizedLinear linear;
  const at::Tensor whole = codes.codes.to(at::kCPU, at::kShort).contiguous();
  const std::int64_t rows = whole.size(0);
  const std::int64_t columns = whole.size(1);
  const std::int64_t row_bytes = packed_row_bytes(columns, format.bits);
  linear.codes.resize(static_cast<std::size_t>(rows * row_bytes));
  const auto* data = whole.data_ptr<std::int16_t>();
  parallel_for(static_cast<std::size_t>(rows), 16, [&](std::size_t begin, std::size_t end) {
    for (std::size_t row = begin; row < end; ++row) {
      pack_row(std::span(data + row * static_cast<std::size_t>(columns), static_cast<std::size_t>(columns)),
               format.bits, format.symmetric,
               std::span(linear.codes)
                   .subspan(row * static_cast<std::size_t>(row_bytes), static_cast<std::size_t>(row_bytes)));
    }
  });
  const ScaleTensors held = snapped(codes.scales, format);
  if (!held.scale.equal(codes.scales.scale) ||
      (held.zero_point.defined() && !held.zero_point.equal(codes.scales.zero_point))) {
    throw std::logic_error("scales are packed that no checkpoint of the format can hold");
  }
  if (format.two_level) {
    linear.scales = to_floats(held.channel);
    const std::vector<float> of_groups = to_floats(whole_group_scales(held));
    linear.group_scales.assign(of_groups.begin(), of_groups.end());
  } else {
    linear.scales = to_floats(codes.scales.scale);
  }
  for (const float zero :
       codes.scales.zero_point.defined() ? to_floats(codes.scales.zero_point) : std::vector<float>{}) {
    linear.zero_points.push_back(static_cast<std::int16_t>(std::lround(zero)));
  }
  if (bias.defined()) linear.bias = to_floats(bias);
  return linear;
}

QuantizedLinear half_linear(const at::Tensor& weight, const at::Tensor& bias) {
  QuantizedLinear linear;
  linear.weight = to_half_bits(weight);
  if (bias.defined()) linear.bias = to_floats(bias);
  return linear;
}

WeightCodes unpack_codes(const QuantizedLinear& linear, const LinearShape& shape, const QuantizerFormat& format,
                         const at::Device& device) {
  const std::int64_t rows = shape.out_features;
  const std::int64_t columns = shape.in_features;
  at::Tensor whole = at::empty({rows, columns}, at::kShort);
  auto* data = whole.data_ptr<std::int16_t>();
  const auto row_bytes = static_cast<std::size_t>(packed_row_bytes(columns, format.bits));
  parallel_for(static_cast<std::size_t>(rows), 16, [&](std::size_t begin, std::size_t end) {
    for (std::size_t row = begin; row < end; ++row) {
      unpack_row(std::span(linear.codes).subspan(row * row_bytes, row_bytes), format.bits, format.symmetric,
                 std::span(data + row * static_cast<std::size_t>(columns), static_cast<std::size_t>(columns)));
    }
  });
  const auto floats = at::TensorOptions(device).dtype(at::kFloat);
  const std::int64_t groups = format.groups(columns);
  WeightCodes codes{whole.to(device, at::kFloat), {}};
  ScaleTensors& scales = codes.scales;
  if (format.two_level) {
    scales.channel = from_floats(linear.scales, {rows, 1}, floats);
    const std::vector<float> in_floats(linear.group_scales.begin(), linear.group_scales.end());
    scales.scale = scales.channel * from_floats(in_floats, {rows, groups}, floats);
  } else {
    scales.scale = from_floats(linear.scales, {rows, groups}, floats);
  }
  if (!format.symmetric) {
    scales.zero_point = from_floats({linear.zero_points.begin(), linear.zero_points.end()}, {rows, groups}, floats);
  }
  return codes;
}

nn::Linear unpack_linear(const QuantizedLinear& linear, const LinearShape& shape, const QuantizerFormat& format,
                         const at::TensorOptions& options) {
  nn::Linear result;
  if (!linear.bias.empty()) result.bias = from_floats(linear.bias, {shape.out_features}, options);
  if (format.enabled()) {
    result.weight = dequantize_weight(unpack_codes(linear, shape, format, options.device()), format).to(options);
  } else {
    result.weight = from_half_bits(linear.weight.data(), {shape.out_features, shape.in_features}, options);
  }
  return result;
}

nn::Tap quantizing_tap(const PerSite<SiteFakeQuantizer>& sites) {
  return [sites](Site site, const at::Tensor& x) {
    const SiteFakeQuantizer* quantizer = sites.find(site);
    return quantizer == nullptr ? x : (*quantizer)(x);
  };
}

std::vector<std::uint16_t> to_half_bits(const at::Tensor& x) {
  const at::Tensor half = x.to(at::kCPU, at::kHalf).contiguous();
  const auto* bits = reinterpret_cast<const std::uint16_t*>(half.data_ptr<at::Half>());
  return {bits, bits + half.numel()};
}

at::Tensor in_half(const at::Tensor& x, std::string_view name, std::string_view remedy) {
  constexpr double largest_half = 65504;
  const double largest = x.numel() > 0 ? x.abs().max().item<double>() : 0;
  if (largest > largest_half) {
    throw UnsupportedError(
        name,
        fmt::format("reaches {:.6g}, beyond {}, the range of binary16, which a quantized checkpoint keeps it in",
                    largest, largest_half),
        remedy);
  }
  return x.to(at::kHalf);
}

std::vector<std::uint16_t> checked_half_bits(const at::Tensor& x, std::string_view name, std::string_view remedy) {
  return to_half_bits(in_half(x, name, remedy));
}

at::Tensor from_half_bits(const std::uint16_t* bits, at::IntArrayRef shape, const at::TensorOptions& options) {
  const at::Tensor half = at::from_blob(const_cast<std::uint16_t*>(bits), shape, at::kHalf);
  return half.to(at::kFloat).to(options);
}

std::vector<float> to_floats(const at::Tensor& x) {
  const at::Tensor plain = x.to(at::kCPU, at::kFloat).contiguous();
  const float* data = plain.data_ptr<float>();
  return {data, data + plain.numel()};
}

at::Tensor from_floats(const std::vector<float>& values, at::IntArrayRef shape, const at::TensorOptions& options) {
  return at::from_blob(const_cast<float*>(values.data()), shape, at::kFloat).to(options, false, /*copy=*/true);
}

}  // namespace pq::quant
