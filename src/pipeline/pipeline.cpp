#include "pipeline/pipeline.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "base/error.h"
#include "base/log.h"
#include "base/progress.h"
#include "nn/batches.h"
#include "nn/model_context.h"
#include "nn/transformer.h"
#include "pipeline/outliers.h"
#include "quant/block_start.h"
#include "quant/rotate.h"
#include "tuning/end_to_end.h"
#include "tuning/exchange.h"
#include "tuning/finetune.h"
#include "tuning/stream_place.h"

namespace pq::quant {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Runs `block` over a stream of sequences [samples, length, hidden] in place, a few sequences at a time.
void propagate(const nn::Block& block, const nn::BlockContext& context, at::Tensor& stream, const nn::Tap& tap) {
  const std::int64_t samples = stream.size(0);
  const std::int64_t batch = nn::sequences_together(stream.size(1));
  for (std::int64_t begin = 0; begin < samples; begin += batch) {
    at::Tensor rows = stream.narrow(0, begin, std::min(batch, samples - begin));
    rows.copy_(nn::forward(block, context, rows.to(block[LinearId::q].weight.device()), tap));
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
            const CalibrationData& data, const at::TensorOptions& options, const QuantizeWork& work,
            QuantizedModelSink& sink)
      : checkpoint_(checkpoint),
        spec_(checkpoint.spec()),
        recipe_(recipe),
        data_(data),
        options_(options),
        work_(work),
        processes_(Communicator::world()),
        sink_(sink),
        rotation_(spec_, recipe.rotate, recipe.seed, options.device()),
        shards_(data.training.samples(), data.validation.samples(), recipe.finetune.batch, processes_.rank(),
                processes_.size()) {
    const auto prefix_tokens = static_cast<std::int64_t>(prefix_ids.size());
    needs_statistics_ = (recipe.activation.enabled() && recipe.activation.is_static()) ||
                        (recipe.kv.enabled() && recipe.kv.is_static());
    contexts_ = nn::ModelContext(
        spec_, nn::online_rotations(recipe),
        prefix_tokens + std::max({data.detection.length(), data.search.length(), data.training.length()}), options);
    // Statistics and search are the root's; the others wait for what it finds.
    if (needs_statistics_ && processes_.is_root())
      statistics_stream_ = start_stream(to_token_tensor(data.detection, options.device()));
    if (needs_search(recipe) && processes_.is_root())
      search_stream_ = start_stream(to_token_tensor(data.search, options.device()));
    if (prefix_tokens > 0) {
      prefix_.length = prefix_tokens;
      prefix_.token_ids = prefix_ids;
      CalibrationSet alone;
      alone.sequences.push_back(prefix_ids);
      prefix_stream_ = start_stream(to_token_tensor(alone, options.device()));
    }
    if (recipe.finetune.epochs > 0) start_training_streams();
  }

  QuantizeSummary run() {
    const auto start = std::chrono::steady_clock::now();
    QuantizeSummary summary;
    each_rows(tensor_names::embedding, false, [&](const auto& bits) { sink_.embedding_rows(bits); });
    Progress progress("quantize", static_cast<std::size_t>(spec_.block_count));
    for (std::int64_t index = 0; index < spec_.block_count; ++index) {
      const auto block_start = std::chrono::steady_clock::now();
      quantize_block(index, summary);
      summary.block_seconds.push_back(seconds_since(block_start));
      progress.advance(1, fmt::format("{:.1f}s a block", summary.block_seconds.back()));
    }
    if (end_to_end()) {
      summary.end_to_end = tune_scales();
      for (std::size_t i = 0; i < blocks_.size(); ++i) sink_.block(static_cast<std::int64_t>(i), std::move(blocks_[i]));
    }
    sink_.final_norm(to_floats(final_norm()));
    each_rows(tensor_names::lm_head, true, [&](const auto& bits) { sink_.lm_head_rows(bits); });
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

  bool end_to_end() const { return recipe_.finetune.e2e_epochs > 0; }

  at::Tensor final_norm() const {
    return rotation_.final_norm_after(nn::load_tensor(checkpoint_, tensor_names::final_norm, options_));
  }

  /// Streams embedding or lm_head through the rotation, some rows at a time, in binary16.
  template <typename Receive>
  void each_rows(std::string_view name, bool head, const Receive& receive) const {
    const at::Tensor norm = head ? nn::load_tensor(checkpoint_, tensor_names::final_norm, options_) : at::Tensor();
    const std::int64_t chunk = std::max<std::int64_t>(1, (std::int64_t{4} << 20) / spec_.hidden_size);
    for (std::int64_t begin = 0; begin < spec_.vocab_size; begin += chunk) {
      const std::int64_t count = std::min(chunk, spec_.vocab_size - begin);
      const at::Tensor rows = nn::load_rows(checkpoint_, name, begin, count, options_);
      receive(checked_half_bits(head ? rotation_.rotate_lm_head(rows, norm) : rotation_.rotate_embedding(rows), name));
    }
  }

  /// A row of this process among the sequences that train and judge.
  const std::vector<std::int32_t>& owned_sequence(std::int64_t row) const {
    const auto sequence = static_cast<std::size_t>(shards_.owned()[static_cast<std::size_t>(row)]);
    const std::size_t training = data_.training.sequences.size();
    return sequence < training ? data_.training.sequences[sequence] : data_.validation.sequences[sequence - training];
  }

  /// The sequences that this process trains and judges with, as the first block reads them.
  void start_training_streams() {
    const std::int64_t length = data_.training.length();
    const auto rows = static_cast<std::int64_t>(shards_.owned().size());
    const bool aside = recipe_.finetune.target != TrainingTarget::full_precision;
    const auto bytes = static_cast<std::uint64_t>(rows * length * spec_.hidden_size) * sizeof(float);
    const StreamPlace place =
        StreamPlace::choose(bytes * (aside ? 3 : 2), work_.stream_directory, work_.scratch_directory);
    const auto allocate = [&] { return place.allocate({rows, length, spec_.hidden_size}); };
    streams_.input = allocate();
    streams_.target = allocate();
    if (aside) streams_.quantized_target = allocate();
    for (std::int64_t row = 0; row < rows; ++row) {
      CalibrationSet one;
      one.sequences.push_back(owned_sequence(row));
      streams_.input.narrow(0, row, 1).copy_(start_stream(to_token_tensor(one, options_.device())));
    }
    streams_.target.copy_(streams_.input);
  }

  /// The block's own prefix, or nothing; the prefix stream goes on to the next block.
  nn::KeyValue next_prefix(const nn::Block& block, std::int64_t index) {
    if (!prefix_stream_.defined()) return {};
    nn::KeyValue computed;
    prefix_stream_ = nn::forward(block, contexts_.block(index), prefix_stream_, {}, &computed);
    checked_half_bits(computed.key, "the prefix's keys");
    checked_half_bits(computed.value, "the prefix's values");
    prefix_.blocks.push_back(save_prefix(computed));
    return saved_prefix(prefix_.blocks.size() - 1);
  }

  nn::KeyValue saved_prefix(std::size_t index) const {
    return restore_prefix(prefix_.blocks[index], spec_, prefix_.length, options_);
  }

  void quantize_block(std::int64_t index, QuantizeSummary& summary) {
    nn::Block block = nn::load_block(checkpoint_, index, options_);
    rotation_.rotate_block(block);
    const nn::KeyValue prefix = next_prefix(block, index);
    const nn::BlockContext block_context = contexts_.block(index, prefix_stream_.defined() ? &prefix : nullptr);
    SiteStatistics statistics;
    if (statistics_stream_.defined()) statistics = measure(block, block_context, summary);

    const bool finished = is_finished(index);
    if (streams_.input.defined()) propagate(block, block_context, streams_.target, {});
    if (streams_.quantized_target.defined() && !finished) {
      streams_.quantized_target.copy_(streams_.input);
      propagate(block, block_context, streams_.quantized_target, {});
    }
    QuantizedBlock quantized;
    if (finished) {
      if (work_.journal != nullptr) quantized = work_.journal->block(index);
      broadcast(processes_, quantized, spec_, recipe_);
      if (recipe_.finetune.epochs > 0) summary.tuning.push_back(finished_tuning(index));
    } else {
      quantized = make_block(index, std::move(block), block_context, statistics, summary);
    }
    block = {};
    if (index + 1 < spec_.block_count) {
      const nn::Block restored = restore_block(quantized, spec_, recipe_, options_);
      const nn::Tap tap = restore_tap(quantized, recipe_, options_);
      if (search_stream_.defined()) propagate(restored, block_context, search_stream_, tap);
      if (streams_.input.defined()) propagate(restored, block_context, streams_.input, tap);
    }
    if (end_to_end()) {
      blocks_.push_back(std::move(quantized));
    } else {
      sink_.block(index, std::move(quantized));
    }
  }

  /// The second phase, over all blocks. What the first one streamed is gone by then.
  Tuning tune_scales() {
    streams_ = {};
    statistics_stream_ = search_stream_ = prefix_stream_ = at::Tensor();
    EndToEndModel model;
    model.context = &contexts_;
    for (std::size_t i = 0; i < prefix_.blocks.size(); ++i) model.prefix.push_back(saved_prefix(i));
    model.final_norm = final_norm();
    model.lm_head = at::empty({spec_.vocab_size, spec_.hidden_size}, options_.dtype(compute_type(recipe_)));
    std::int64_t next = 0;
    each_rows(tensor_names::lm_head, true, [&](const std::vector<std::uint16_t>& bits) {
      const std::int64_t count = static_cast<std::int64_t>(bits.size()) / spec_.hidden_size;
      model.lm_head.narrow(0, next, count).copy_(from_half_bits(bits.data(), {count, spec_.hidden_size}, options_));
      next += count;
    });
    model.embed = [this](const at::Tensor& tokens) { return start_stream(tokens); };
    CalibrationSet owned;
    for (std::size_t row = 0; row < shards_.owned().size(); ++row)
      owned.sequences.push_back(owned_sequence(static_cast<std::int64_t>(row)));
    return tune_end_to_end(blocks_, model, to_token_tensor(owned, at::kCPU),
                           {recipe_, shards_, processes_, work_.journal}, options_);
  }

  bool is_finished(std::int64_t index) {
    return broadcast(processes_, Json(work_.journal != nullptr && index < work_.journal->finished_blocks()))
        .get<bool>();
  }

  Tuning finished_tuning(std::int64_t index) {
    return tuning_from_json(
        broadcast(processes_, work_.journal != nullptr ? work_.journal->block_notes(index) : Json()));
  }

  /// Searches, trains and rounds one block, and saves it in the journal.
  QuantizedBlock make_block(std::int64_t index, nn::Block block, const nn::BlockContext& block_context,
                            const SiteStatistics& statistics, QuantizeSummary& summary) {
    BlockStart start;
    if (processes_.is_root()) {
      start = find_start(std::move(block), block_context, search_stream_, statistics, recipe_);
    } else {
      start.block = std::move(block);
    }
    broadcast(processes_, start, spec_, recipe_);
    Json notes = Json::object();
    if (recipe_.finetune.epochs > 0) {
      const at::Tensor& judged = streams_.quantized_target.defined() ? streams_.quantized_target : streams_.target;
      streams_.weight = token_weights(judged, recipe_, prefix_stream_.defined());
      const TuningRun run{recipe_, shards_, processes_, work_.journal};
      summary.tuning.push_back(finetune_block(index, start, block_context, streams_, run, options_));
      notes = tuning_to_json(summary.tuning.back());
    }
    QuantizedBlock quantized = round_block(start, recipe_, index);
    broadcast(processes_, quantized, spec_, recipe_);
    if (work_.journal != nullptr) work_.journal->save_block(index, quantized, notes);
    return quantized;
  }

  /// Min and max of every quantized site on the full-precision stream, which goes on to the next block; counts the
  /// outlier tokens that are left with the prefix in place. Those few are exceptions, so with a prefix they do not set
  /// the scales.
  SiteStatistics measure(const nn::Block& block, const nn::BlockContext& block_context, QuantizeSummary& summary) {
    SiteStatistics statistics;
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
      if (MinMaxTensors* range = statistics.find(site)) {
        const at::Tensor skip =
            site == Site::down_input ? outliers : upper_outlier_mask(token_maxima(x), recipe_.prefix);
        const bool skip_any = prefix_stream_.defined() && skip.any().item<bool>();
        *range = merge(*range, static_slices(site, skip_any ? without(x, skip) : x));
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
  const CalibrationData& data_;
  at::TensorOptions options_;
  const QuantizeWork& work_;
  Communicator& processes_;
  QuantizedModelSink& sink_;
  Rotation rotation_;
  SequenceShards shards_;
  nn::ModelContext contexts_;
  bool needs_statistics_ = false;
  at::Tensor statistics_stream_;        // [samples, length, hidden], full precision
  at::Tensor search_stream_;            // [samples, length, hidden], through the quantized blocks
  TrainingStreams streams_;             // with fine-tuning
  std::vector<QuantizedBlock> blocks_;  // with the second phase, which the sink waits for
  at::Tensor prefix_stream_;            // [1, tokens, hidden], full precision
  Prefix prefix_;
};

}  // namespace

Json quantize_summary_to_json(const QuantizeSummary& summary) {
  Json json{{"seconds", summary.seconds}, {"block_seconds", summary.block_seconds}};
  if (summary.outliers_measured) {
    json["remaining_outliers_per_sequence"] = summary.remaining_outliers;
    json["remaining_max_ratio"] = summary.remaining_ratio;
  }
  if (!summary.tuning.empty()) {
    json["finetune"] = Json::array();
    for (const Tuning& tuning : summary.tuning) json["finetune"].push_back(tuning_to_json(tuning));
  }
  if (summary.end_to_end) json["e2e"] = tuning_to_json(*summary.end_to_end);
  return json;
}

QuantizeSummary quantize_model(const io::HfCheckpoint& checkpoint, const Recipe& recipe,
                               const std::vector<std::int32_t>& prefix_ids, const CalibrationData& data,
                               const at::TensorOptions& options, QuantizedModelSink& sink, const QuantizeWork& work) {
  const at::NoGradGuard no_grad;
  return Quantizer(checkpoint, recipe, prefix_ids, data, options, work, sink).run();
}

}  // namespace pq::quant
