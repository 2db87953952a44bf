#include "quant/pipeline.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "base/error.h"
#include "base/log.h"
#include "base/progress.h"
#include "nn/transformer.h"
#include "quant/gptq.h"
#include "quant/grid_search.h"
#include "quant/rotate.h"

namespace pq::quant {
namespace {

constexpr double largest_half = 65504;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::vector<std::uint16_t> checked_half(const at::Tensor& x, std::string_view name) {
  if (x.numel() > 0 && x.abs().max().item<double>() > largest_half) {
    throw UnsupportedError(name, "holds values beyond the range of binary16, which a quantized checkpoint keeps it in",
                           "leave that rotation out (--set rotate.r1=false)");
  }
  return to_half_bits(x);
}

/// Runs `block` over a stream of sequences [samples, length, hidden] in place, a few sequences at a time.
void propagate(const nn::Block& block, const nn::BlockContext& context, at::Tensor& stream, const nn::Tap& tap) {
  const std::int64_t samples = stream.size(0);
  const std::int64_t batch = std::max<std::int64_t>(1, 2048 / std::max<std::int64_t>(1, stream.size(1)));
  for (std::int64_t begin = 0; begin < samples; begin += batch) {
    at::Tensor rows = stream.narrow(0, begin, std::min(batch, samples - begin));
    rows.copy_(nn::forward(block, context, rows, tap));
  }
}

/// x [batch, tokens, ..] with zeros at the tokens of `skip` [batch, tokens].
at::Tensor without(const at::Tensor& x, const at::Tensor& skip) {
  at::Tensor mask = skip.to(x.device());
  while (mask.dim() < x.dim()) mask = mask.unsqueeze(-1);
  return x.masked_fill(mask, 0);
}

/// The streams and settings that go from block to block.
class Quantizer {
 public:
  Quantizer(const io::HfCheckpoint& checkpoint, const Recipe& recipe, const std::vector<std::int32_t>& prefix_ids,
            const CalibrationData& data, const at::TensorOptions& options, QuantizedModelSink& sink)
      : checkpoint_(checkpoint),
        spec_(checkpoint.spec()),
        recipe_(recipe),
        options_(options),
        sink_(sink),
        rotation_(spec_, recipe.rotate, recipe.seed, options.device()) {
    const auto prefix_tokens = static_cast<std::int64_t>(prefix_ids.size());
    needs_statistics_ = (recipe.activation.enabled() && recipe.activation.is_static()) ||
                        (recipe.kv.enabled() && recipe.kv.is_static());
    needs_search_ = ((recipe.search.weight || recipe.search.gptq) && recipe.weight.enabled()) ||
                    (recipe.search.activation && recipe.activation.enabled()) ||
                    (recipe.search.kv && recipe.kv.enabled());
    rope_ = nn::Rope(spec_, prefix_tokens + std::max(data.detection.length(), data.search.length()), options);
    if (recipe.rotate.r3) r3_ = std::make_unique<nn::Hadamard>(spec_.head_dim, options);
    if (recipe.rotate.r4) r4_ = std::make_unique<nn::Hadamard>(spec_.intermediate_size, options);
    if (needs_statistics_) statistics_stream_ = start_stream(to_token_tensor(data.detection, options.device()));
    if (needs_search_) search_stream_ = start_stream(to_token_tensor(data.search, options.device()));
    if (prefix_tokens > 0) {
      prefix_.token_ids = prefix_ids;
      CalibrationSet alone;
      alone.sequences.push_back(prefix_ids);
      prefix_stream_ = start_stream(to_token_tensor(alone, options.device()));
    }
  }

  QuantizeSummary run() {
    const auto start = std::chrono::steady_clock::now();
    QuantizeSummary summary;
    write_rows(tensor_names::embedding, false);
    Progress progress("quantize", static_cast<std::size_t>(spec_.block_count));
    for (std::int64_t index = 0; index < spec_.block_count; ++index) {
      const auto block_start = std::chrono::steady_clock::now();
      quantize_block(index, summary);
      summary.block_seconds.push_back(seconds_since(block_start));
      progress.advance(1, fmt::format("{:.1f}s a block", summary.block_seconds.back()));
    }
    const at::Tensor norm = nn::load_tensor(checkpoint_, tensor_names::final_norm, options_);
    sink_.final_norm(to_floats(rotation_.final_norm_after(norm)));
    write_rows(tensor_names::lm_head, true);
    sink_.prefix(std::move(prefix_));
    summary.outliers_measured = needs_statistics_;
    summary.seconds = seconds_since(start);
    return summary;
  }

 private:
  /// Embeddings of `tokens` as the quantized checkpoint will hold them: rotated, then rounded to binary16.
  at::Tensor start_stream(const at::Tensor& tokens) const {
    return rotation_.rotate_embedding(nn::embed(checkpoint_, tokens, options_))
        .to(at::kHalf)
        .to(options_.dtype().toScalarType());
  }

  /// Streams embedding or lm_head through the rotation to the sink, some rows at a time.
  void write_rows(std::string_view name, bool head) {
    const at::Tensor norm = head ? nn::load_tensor(checkpoint_, tensor_names::final_norm, options_) : at::Tensor();
    const std::int64_t chunk = std::max<std::int64_t>(1, (std::int64_t{4} << 20) / spec_.hidden_size);
    for (std::int64_t begin = 0; begin < spec_.vocab_size; begin += chunk) {
      const std::int64_t count = std::min(chunk, spec_.vocab_size - begin);
      const at::Tensor rows = nn::load_rows(checkpoint_, name, begin, count, options_);
      const std::vector<std::uint16_t> bits =
          checked_half(head ? rotation_.rotate_lm_head(rows, norm) : rotation_.rotate_embedding(rows), name);
      head ? sink_.lm_head_rows(bits) : sink_.embedding_rows(bits);
    }
  }

  nn::BlockContext context(std::int64_t index, const nn::KeyValue* prefix) const {
    nn::BlockContext context;
    context.spec = &spec_;
    context.rope = &rope_;
    context.r3 = r3_.get();
    context.r4 = r4_.get();
    context.window = spec_.window_of_block(index);
    context.prefix = prefix;
    return context;
  }

  void quantize_block(std::int64_t index, QuantizeSummary& summary) {
    nn::Block block = nn::load_block(checkpoint_, index, options_);
    rotation_.rotate_block(block);
    nn::KeyValue prefix;
    if (prefix_stream_.defined()) {
      nn::KeyValue computed;
      prefix_stream_ = nn::forward(block, context(index, nullptr), prefix_stream_, {}, &computed);
      checked_half(computed.key, "the prefix's keys");
      checked_half(computed.value, "the prefix's values");
      prefix_.blocks.push_back(save_prefix(computed));
      prefix =
          restore_prefix(prefix_.blocks.back(), spec_, static_cast<std::int64_t>(prefix_.token_ids.size()), options_);
    }
    const nn::BlockContext block_context = context(index, prefix_stream_.defined() ? &prefix : nullptr);

    std::array<MinMaxTensors, quantized_sites.size()> statistics;
    if (needs_statistics_) statistics = measure(block, block_context, summary);

    QuantizedBlock quantized;
    quantized.input_norm = to_floats(block.input_norm);
    quantized.post_attention_norm = to_floats(block.post_attention_norm);
    std::unique_ptr<GridSearch> search;
    if (needs_search_) search = std::make_unique<GridSearch>(block, block_context, search_stream_, recipe_);
    for (std::size_t i = 0; i < quantized_sites.size(); ++i) {
      if (search) {
        quantized.sites[i] = search->site(quantized_sites[i], statistics[i]);
      } else if (recipe_.format_of(quantized_sites[i]).enabled() && recipe_.format_of(quantized_sites[i]).is_static()) {
        quantized.sites[i] = min_max_site(quantized_sites[i], statistics[i]);
      }
    }
    if (search) search->finish_sites();
    for (const LinearId id : all_linears) {
      nn::Linear& linear = block[id];
      auto& target = quantized.linears[static_cast<std::size_t>(id)];
      if (!recipe_.weight.enabled()) {
        checked_half(linear.weight, tensor_names::linear(index, id));
        target = half_linear(linear.weight, linear.bias);
        continue;
      }
      const at::Tensor clip =
          search ? search->weight_clip(id)
                 : at::ones({linear.weight.size(0), weight_groups(recipe_.weight, linear.weight.size(1))}, options_);
      const bool compensate = search && recipe_.search.gptq;
      target =
          pack_linear(compensate ? quantize_weight_compensated(linear.weight, clip, search->gram(id), recipe_.weight)
                                 : quantize_weight(linear.weight, clip, recipe_.weight),
                      linear.bias, recipe_.weight);
    }
    search.reset();
    block = {};
    if (needs_search_ && index + 1 < spec_.block_count) {
      propagate(restore_block(quantized, spec_, recipe_, options_), block_context, search_stream_,
                restore_tap(quantized, recipe_, options_));
    }
    sink_.block(index, std::move(quantized));
  }

  SiteQuantizer min_max_site(Site site, const MinMaxTensors& range) const {
    const at::Tensor one = at::ones_like(range.max);
    const ScaleTensors scales = slice_scales(range.min, range.max, one, one, recipe_.format_of(site));
    SiteQuantizer result;
    result.scale = to_floats(scales.scale);
    if (scales.zero_point.defined()) {
      for (const float zero : to_floats(scales.zero_point))
        result.zero_point.push_back(static_cast<std::int16_t>(zero));
    }
    return result;
  }

  /// Min and max of every quantized site on the full-precision stream, which goes on to the next block; counts the
  /// outlier tokens that are left with the prefix in place. Those few are exceptions, so with a prefix they do not set
  /// the scales.
  std::array<MinMaxTensors, quantized_sites.size()> measure(const nn::Block& block,
                                                            const nn::BlockContext& block_context,
                                                            QuantizeSummary& summary) {
    std::array<MinMaxTensors, quantized_sites.size()> statistics;
    double upper = 0;
    at::Tensor outliers;  // [batch, tokens] of the batch at hand, at down_proj's input
    const nn::Tap tap = [&](Site site, const at::Tensor& x) {
      if (site == Site::down_product) {
        const at::Tensor maxima = token_maxima(x);
        const SiteOutliers left = measure_outliers(maxima, recipe_.prefix);
        upper += left.mean_upper * static_cast<double>(x.size(0));
        summary.remaining_ratio = std::max(summary.remaining_ratio, left.max_ratio);
        outliers = upper_outlier_mask(maxima, recipe_.prefix);
      }
      const int slot = quantized_site_index(site);
      if (slot >= 0) {
        auto& range = statistics[static_cast<std::size_t>(slot)];
        const at::Tensor skip =
            site == Site::down_input ? outliers : upper_outlier_mask(token_maxima(x), recipe_.prefix);
        const bool skip_any = prefix_stream_.defined() && skip.any().item<bool>();
        range = merge(range, static_slices(site, skip_any ? without(x, skip) : x));
      }
      return x;
    };
    propagate(block, block_context, statistics_stream_, tap);
    summary.remaining_outliers =
        std::max(summary.remaining_outliers, upper / static_cast<double>(statistics_stream_.size(0)));
    return statistics;
  }

  const io::HfCheckpoint& checkpoint_;
  const ModelSpec& spec_;
  const Recipe& recipe_;
  at::TensorOptions options_;
  QuantizedModelSink& sink_;
  Rotation rotation_;
  nn::Rope rope_;
  std::unique_ptr<nn::Hadamard> r3_;
  std::unique_ptr<nn::Hadamard> r4_;
  bool needs_statistics_ = false;
  bool needs_search_ = false;
  at::Tensor statistics_stream_;  // [samples, length, hidden], full precision
  at::Tensor search_stream_;      // [samples, length, hidden], through the quantized blocks
  at::Tensor prefix_stream_;      // [1, tokens, hidden], full precision
  Prefix prefix_;
};

}  // namespace

Json quantize_summary_to_json(const QuantizeSummary& summary) {
  Json json{{"seconds", summary.seconds}, {"block_seconds", summary.block_seconds}};
  if (summary.outliers_measured) {
    json["remaining_outliers_per_sequence"] = summary.remaining_outliers;
    json["remaining_max_ratio"] = summary.remaining_ratio;
  }
  return json;
}

CalibrationData calibration_from_model(const io::HfCheckpoint& checkpoint, const Tokenizer& tokenizer,
                                       const Recipe& recipe, const at::TensorOptions& options) {
  const at::NoGradGuard no_grad;
  const ModelSpec& spec = checkpoint.spec();
  const SequenceShape detection =
      fit_to_context(recipe.calibration.samples, recipe.calibration.length, spec.max_positions);
  const SequenceShape search = fit_to_context(recipe.search.samples, recipe.search.length, spec.max_positions);
  const std::int32_t start = start_token(tokenizer, spec);
  const auto model = nn::Transformer::load(checkpoint, options);
  const auto sample = [&](SequenceShape shape, std::uint64_t seed) {
    Progress progress("sample", static_cast<std::size_t>(shape.length));
    std::int64_t shown = 0;
    CalibrationSet set;
    set.sequences = model->sample(shape.samples, shape.length, start, seed, [&](std::int64_t done, std::int64_t total) {
      const std::int64_t now = done * shape.length / std::max<std::int64_t>(1, total);
      progress.advance(static_cast<std::size_t>(now - shown), fmt::format("{} sequences", shape.samples));
      shown = now;
    });
    return set;
  };
  CalibrationData data;
  data.source = "self";
  data.detection =
      sample({detection.length == search.length ? std::max(detection.samples, search.samples) : detection.samples,
              detection.length},
             recipe.seed);
  data.search = data.detection;
  if (detection.length != search.length) data.search = sample(search, recipe.seed + 1);
  data.detection.sequences.resize(static_cast<std::size_t>(detection.samples));
  data.search.sequences.resize(static_cast<std::size_t>(search.samples));
  return data;
}

QuantizeSummary quantize_model(const io::HfCheckpoint& checkpoint, const Recipe& recipe,
                               const std::vector<std::int32_t>& prefix_ids, const CalibrationData& data,
                               const at::TensorOptions& options, QuantizedModelSink& sink) {
  const at::NoGradGuard no_grad;
  return Quantizer(checkpoint, recipe, prefix_ids, data, options, sink).run();
}

}  // namespace pq::quant
