#include "verify/reference.h"

#include <algorithm>
#include <cmath>

#include "base/half.h"
#include "base/index.h"
#include "base/parallel_for.h"
#include "io/safetensors.h"
#include "model/key_basis.h"
#include "numerics/activation.h"
#include "numerics/packing.h"
#include "numerics/quantize.h"
#include "runtime/dynamic_params.h"

namespace pq::runtime {
namespace {

/// One slice that shares a scale.
struct Slice {
  std::size_t first;
  std::size_t count;
  AffineParams params;
};

AffineParams params_of(const QuantizerFormat& format, const SiteQuantizer& parameters, std::span<const float> slice) {
  const MinMax bounds = min_max(slice);
  return dynamic_params(format, parameters.clip, bounds.min, bounds.max);
}

/// The slices of one row of a site.
std::vector<Slice> slices_of(Site site, const QuantizerFormat& format, const SiteQuantizer& parameters,
                             std::size_t head_dim, std::span<const float> row, const AffineParams& of_tensor) {
  std::vector<Slice> slices;
  if (format.is_static()) {
    const std::size_t size = is_kv(site) ? head_dim : row.size();
    for (std::size_t first = 0; first < row.size(); first += size) {
      const std::size_t i = first / size;
      slices.push_back(
          {first, size, {parameters.scale[i], format.symmetric ? 0 : std::int32_t{parameters.zero_point[i]}}});
    }
    return slices;
  }
  if (format.granularity == Granularity::tensor) return {{0, row.size(), of_tensor}};
  if (format.granularity != Granularity::group) return {{0, row.size(), params_of(format, parameters, row)}};
  const std::size_t unit = is_kv(site) ? head_dim : row.size();
  const std::size_t group = std::min(index(format.group), unit);
  for (std::size_t start = 0; start < row.size(); start += unit) {
    for (std::size_t first = start; first < start + unit; first += group) {
      const std::size_t count = std::min(group, start + unit - first);
      slices.push_back({first, count, params_of(format, parameters, row.subspan(first, count))});
    }
  }
  return slices;
}

}  // namespace

ReferenceLinear reference_linear(const BlockSource& source, const ModelSpec& spec, const BlockFormats& formats,
                                 LinearId id) {
  return {&source.weights[id], &source.parameters.linears[id], linear_shape(spec, id), formats.weight[id]};
}

void ReferenceLinear::decode(std::int64_t channel, std::span<double> out) const {
  const auto columns = index(shape.in_features);
  if (!format.enabled() || rows_to_8_bits) {
    std::vector<float> row(columns);
    io::rows_to_float32(*weight, channel, 1, row);
    const float scale = rows_to_8_bits ? symmetric_scale(max_abs(row), 1, 8) : 1.0F;
    for (std::size_t i = 0; i < columns; ++i) {
      out[i] = rows_to_8_bits
                   ? static_cast<double>(quantize(row[i], scale, 0, quant_range(8, true))) * static_cast<double>(scale)
                   : static_cast<double>(row[i]);
    }
    return;
  }
  const std::size_t row_bytes = index(packed_row_bytes(shape.in_features, format.bits));
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(weight->bytes.data()) + index(channel) * row_bytes;
  std::vector<std::int32_t> codes(columns);
  unpack_row({bytes, row_bytes}, format.bits, format.symmetric, codes);
  const std::size_t group = format.granularity == Granularity::group ? index(format.group) : columns;
  const std::size_t groups = index(format.groups(shape.in_features));
  for (std::size_t i = 0; i < columns; ++i) {
    const std::size_t at = index(channel) * groups + i / group;
    std::int32_t steps = codes[i] - (format.symmetric ? 0 : quantized->zero_points[at]);
    if (format.two_level) steps *= quantized->group_scales[at];
    const float scale = quantized->scales[format.two_level ? index(channel) : at];
    out[i] = static_cast<double>(steps) * static_cast<double>(scale);
  }
}

Matrix multiply(const ReferenceLinear& linear, const Matrix& x, Matrix* magnitude) {
  Matrix y(x.rows, linear.shape.out_features);
  if (magnitude != nullptr) *magnitude = y;
  const std::vector<float> none;
  const std::vector<float>& bias = linear.quantized != nullptr ? linear.quantized->bias : none;
  parallel_for(index(y.columns), 16, [&](std::size_t begin, std::size_t end) {
    std::vector<double> weights(index(x.columns));
    for (std::size_t channel = begin; channel < end; ++channel) {
      linear.decode(static_cast<std::int64_t>(channel), weights);
      for (std::int64_t row = 0; row < x.rows; ++row) {
        const std::span<const double> values = x.row(row);
        double sum = bias.empty() ? 0 : static_cast<double>(bias[channel]);
        double absolute = std::fabs(sum);
        for (std::size_t i = 0; i < weights.size(); ++i) {
          sum += values[i] * weights[i];
          absolute += std::fabs(values[i] * weights[i]);
        }
        y.row(row)[channel] = sum;
        if (magnitude != nullptr) magnitude->row(row)[channel] = absolute;
      }
    }
  });
  return y;
}

Matrix rms_norm(const Matrix& x, std::span<const float> gamma, double eps) {
  Matrix y = x;
  if (gamma.empty()) return y;
  for (std::int64_t row = 0; row < x.rows; ++row) {
    double squares = 0;
    for (const double value : x.row(row)) squares += value * value;
    const double inverse = 1 / std::sqrt(squares / static_cast<double>(x.columns) + eps);
    for (std::size_t i = 0; i < gamma.size(); ++i) y.row(row)[i] *= inverse * static_cast<double>(gamma[i]);
  }
  return y;
}

void apply_rope(Matrix& x, const ModelSpec& spec, std::int64_t block, std::int64_t first_position) {
  const RopeSpec& rope = spec.block(block).rope;
  const std::vector<double> frequencies = rope_frequencies(rope, spec.rotary_channels());
  const double amplitude = rope_amplitude(rope);
  const std::size_t half = frequencies.size();
  for (std::int64_t row = 0; row < x.rows; ++row) {
    const std::span<double> values = x.row(row);
    for (std::size_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(first_position + row) * frequencies[i];
      const double cosine = amplitude * std::cos(angle);
      const double sine = amplitude * std::sin(angle);
      for (std::size_t head = 0; head < values.size(); head += index(spec.head_dim)) {
        const double a = values[head + i];
        const double b = values[head + half + i];
        values[head + i] = a * cosine - b * sine;
        values[head + half + i] = b * cosine + a * sine;
      }
    }
  }
}

namespace {

/// Whether an arithmetic that rounds otherwise may have chosen `step` for a value where this one chose `own`.
bool on_border(double value_in_steps, std::int32_t step, std::int32_t own, bool at_end, bool moving_ends) {
  if (std::fabs(value_in_steps - step) <= 0.5 + border_width) return true;
  // The zero point of a dynamic range is rounded too, and where it is on a border, so are both ends of the range.
  return at_end && moving_ends && std::abs(step - own) == 1;
}

}  // namespace

SiteCodes quantize_site(Site site, const QuantizerFormat& format, const SiteQuantizer& parameters,
                        std::int64_t head_dim, const Matrix& x, std::span<const std::int32_t> chosen) {
  if (!format.enabled()) return {{}, {}, x};
  SiteCodes result{std::vector<std::int32_t>(x.values.size()), std::vector<std::int32_t>(x.values.size()),
                   Matrix(x.rows, x.columns)};
  const bool moving_ends = !format.is_static() && !format.symmetric;
  const std::vector<float> floats(x.values.begin(), x.values.end());
  const QuantRange range = quant_range(format.bits, format.symmetric);
  AffineParams of_tensor{};
  if (!format.is_static() && format.granularity == Granularity::tensor) {
    of_tensor = params_of(format, parameters, floats);
  }
  const auto columns = index(x.columns);
  for (std::size_t row = 0; row < index(x.rows); ++row) {
    const std::span<const float> values = std::span(floats).subspan(row * columns, columns);
    for (const Slice& slice : slices_of(site, format, parameters, index(head_dim), values, of_tensor)) {
      for (std::size_t i = slice.first; i < slice.first + slice.count; ++i) {
        const std::size_t at = row * columns + i;
        std::int32_t code = quantize(values[i], slice.params.scale, slice.params.zero_point, range);
        std::int32_t step = code - slice.params.zero_point;
        if (!chosen.empty() && chosen[at] != step) {
          const double in_steps = static_cast<double>(values[i]) / static_cast<double>(slice.params.scale);
          const bool at_end = code == range.low || code == range.high;
          if (on_border(in_steps, chosen[at], step, at_end, moving_ends)) step = chosen[at];
          code = step + slice.params.zero_point;
        }
        result.codes[at] = code;
        result.steps[at] = step;
        result.values.values[at] = static_cast<double>(dequantize(code, slice.params.scale, slice.params.zero_point));
      }
    }
  }
  return result;
}

Matrix attend(const ModelSpec& spec, std::int64_t window, const Matrix& query, const Matrix& key, const Matrix& value,
              const Matrix& prefix_key, const Matrix& prefix_value) {
  const std::int64_t dim = spec.head_dim;
  const std::int64_t group = spec.head_count / spec.kv_head_count;
  const double scale = spec.score_scale();
  Matrix out(query.rows, query.columns);
  for (std::int64_t i = 0; i < query.rows; ++i) {
    const std::int64_t position = key.rows - query.rows + i;
    const std::int64_t oldest = window > 0 ? std::max<std::int64_t>(0, position - window + 1) : 0;
    for (std::int64_t head = 0; head < spec.head_count; ++head) {
      const std::span<const double> q = query.row(i).subspan(index(head * dim), index(dim));
      const auto part = [&](const Matrix& prefix, const Matrix& body, std::int64_t k) {
        const Matrix& from = k < prefix_key.rows ? prefix : body;
        return from.row(k < prefix_key.rows ? k : oldest + k - prefix_key.rows)
            .subspan(index(head / group * dim), index(dim));
      };
      std::vector<double> scores(index(prefix_key.rows + position - oldest + 1));
      for (std::size_t k = 0; k < scores.size(); ++k) {
        const std::span<const double> of_key = part(prefix_key, key, static_cast<std::int64_t>(k));
        for (std::size_t c = 0; c < q.size(); ++c) scores[k] += q[c] * of_key[c] * scale;
      }
      const double largest = *std::max_element(scores.begin(), scores.end());
      double total = 0;
      for (double& score : scores) total += score = std::exp(score - largest);
      for (std::size_t k = 0; k < scores.size(); ++k) {
        const std::span<const double> of_value = part(prefix_value, value, static_cast<std::int64_t>(k));
        for (std::size_t c = 0; c < q.size(); ++c) {
          out.row(i)[index(head * dim) + c] += scores[k] / total * of_value[c];
        }
      }
    }
  }
  return out;
}

Matrix prefix_rows(const ModelSource& source, std::int64_t block, bool key) {
  const std::int64_t tokens = source.prefix.length;
  const std::int64_t dim = source.spec.head_dim;
  Matrix rows(tokens, source.spec.kv_size());
  if (tokens == 0) return rows;
  const Prefix::BlockKv& kv = source.prefix.blocks[index(block)];
  for (std::int64_t head = 0; head < source.spec.kv_head_count; ++head) {
    for (std::int64_t token = 0; token < tokens; ++token) {
      for (std::int64_t i = 0; i < dim; ++i) {
        const std::uint16_t half = (key ? kv.key : kv.value)[index((head * tokens + token) * dim + i)];
        rows.row(token)[index(head * dim + i)] = static_cast<double>(f16_to_float(half));
      }
    }
  }
  return rows;
}

Matrix gated_product(Activation activation, const Matrix& gate, const Matrix& up) {
  Matrix out = gate;
  for (std::size_t i = 0; i < out.values.size(); ++i) {
    const double x = gate.values[i];
    out.values[i] = (activation == Activation::silu ? silu(x) : gelu_tanh(x)) * up.values[i];
  }
  return out;
}

Matrix normed_heads(const Matrix& x, std::span<const float> gamma, double eps) {
  if (gamma.empty()) return x;
  const auto size = static_cast<std::int64_t>(gamma.size());
  Matrix parts(x.rows * x.columns / size, size);
  parts.values = x.values;
  Matrix out = x;
  out.values = rms_norm(parts, gamma, eps).values;
  return out;
}

Matrix embed(const ModelSource& source, const ModelOptions& options, std::span<const std::int32_t> tokens) {
  Matrix out(static_cast<std::int64_t>(tokens.size()), source.spec.hidden_size);
  const LinearShape shape{source.spec.vocab_size, source.spec.hidden_size, false};
  const ReferenceLinear rows{&source.embedding, nullptr, shape, QuantizerFormat{}, options.lm_head_bits == 8};
  for (std::int64_t i = 0; i < out.rows; ++i) rows.decode(tokens[index(i)], out.row(i));
  for (double& value : out.values) value *= source.spec.embedding_scale;
  return out;
}

void take_mean(Matrix& key, std::span<const float> mean) {
  if (mean.empty()) return;
  for (std::int64_t i = 0; i < key.rows; ++i) {
    for (std::size_t j = 0; j < mean.size(); ++j) key.row(i)[j] -= static_cast<double>(mean[j]);
  }
}

Matrix reference_block(const ModelSource& source, const BlockSource& block, std::int64_t block_index,
                       const ModelOptions& options, const Matrix& residual, const Decisions& chosen) {
  const ModelSpec& spec = source.spec;
  const BlockFormats formats = block_formats(source.recipe, block_index);
  const QuantizedBlock& parameters = block.parameters;
  const auto linear = [&](LinearId id, const Matrix& x) {
    return multiply(reference_linear(block, spec, formats, id), x);
  };
  const auto quantized = [&](Site site, const Matrix& x) {
    const bool off = is_kv(site) && options.kv_bits != 0;
    return quantize_site(site, off ? QuantizerFormat{} : formats.site[site], parameters.sites[site], spec.head_dim, x,
                         chosen[site])
        .values;
  };
  const std::int64_t first_position = source.prefix.length;
  const SiteTransforms& transforms = parameters.transforms;
  const auto transformed = [&](Site site, Matrix x) {
    if (!transforms[site].empty()) apply_transform(transforms[site], x.values, transform_size(spec, site).value());
    return x;
  };
  const auto rotate = [&](Matrix& x, const SiteTransform& transform, const SiteTransform& basis) {
    apply_rope(x, spec, block_index, first_position);
    apply_transform(transform, x.values, spec.head_dim);
    apply_transform(basis, x.values, x.columns);
  };
  Matrix stream = residual;
  const auto add = [&](NormId norm, const Matrix& x) {
    const Matrix normed = rms_norm(x, parameters.norms[norm], spec.rms_norm_eps);
    for (std::size_t i = 0; i < stream.values.size(); ++i) {
      stream.values[i] += spec.residual_scale * normed.values[i];
    }
  };
  Matrix h = quantized(
      Site::qkv_input,
      transformed(Site::qkv_input, rms_norm(stream, parameters.norms[NormId::attention_input], spec.rms_norm_eps)));
  Matrix query = normed_heads(linear(LinearId::q, h), parameters.norms[NormId::query], spec.rms_norm_eps);
  Matrix key = normed_heads(linear(LinearId::k, h), parameters.norms[NormId::key], spec.rms_norm_eps);
  rotate(query, inverse_transposed(transforms[Site::k_cache]), query_basis_transform(spec, parameters.key_basis));
  rotate(key, transforms[Site::k_cache], key_basis_transform(spec, parameters.key_basis));
  take_mean(key, parameters.key_mean);
  key = quantized(Site::k_cache, key);
  const Matrix value = quantized(Site::v_cache, linear(LinearId::v, h));
  const Matrix attended = attend(spec, spec.window_of_block(block_index), query, key, value,
                                 prefix_rows(source, block_index, true), prefix_rows(source, block_index, false));
  add(NormId::attention_output, linear(LinearId::o, quantized(Site::o_input, transformed(Site::o_input, attended))));
  h = quantized(
      Site::gate_up_input,
      transformed(Site::gate_up_input, rms_norm(stream, parameters.norms[NormId::mlp_input], spec.rms_norm_eps)));
  const Matrix product = gated_product(spec.activation, linear(LinearId::gate, h), linear(LinearId::up, h));
  add(NormId::mlp_output, linear(LinearId::down, quantized(Site::down_input, transformed(Site::down_input, product))));
  return stream;
}

Matrix reference_logits(const ModelSource& source, const ModelOptions& options, const Matrix& residual) {
  const LinearShape shape{source.spec.vocab_size, source.spec.hidden_size, false};
  const ReferenceLinear head{&source.lm_head, nullptr, shape, QuantizerFormat{}, options.lm_head_bits == 8};
  Matrix logits = multiply(head, rms_norm(residual, source.final_norm, source.spec.rms_norm_eps));
  for (double& value : logits.values) value *= source.spec.logit_scale;
  return logits;
}

}  // namespace pq::runtime
