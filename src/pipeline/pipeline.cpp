#include "pipeline/pipeline.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/memory_usage.h"
#include "base/phase_timer.h"
#include "base/progress.h"
#include "base/stopwatch.h"
#include "pipeline/error_stream.h"
#include "pipeline/finished_blocks.h"
#include "pipeline/prefix_stream.h"
#include "pipeline/search_stream.h"
#include "pipeline/second_phase.h"
#include "pipeline/statistics_stream.h"
#include "pipeline/transformed_model.h"
#include "tuning/exchange.h"

namespace pq::quant {
namespace {

/// What the work is done with; all borrowed.
struct Task {
  const TransformedModel& model;
  nn::ModelContext& contexts;  ///< gets the transforms that stay online in each block
  const CalibrationData& data;
  const TuningRun& run;
  const StreamDirectories& directories;
};

/// Adds up what the steps of each block take; a step ends where the next begins.
class StepCosts {
 public:
  explicit StepCosts(std::vector<StepCost>& steps) : steps_(steps) {}
  /// The time since the last call (or since begin()) was this step's.
  void end(const char* name) {
    auto step = std::find_if(steps_.begin(), steps_.end(), [&](const StepCost& one) { return one.name == name; });
    if (step == steps_.end()) step = steps_.insert(step, StepCost{name});
    step->seconds += stopwatch_.seconds();
    step->private_bytes = std::max(step->private_bytes, private_bytes());
    begin();
  }
  void begin() { stopwatch_ = Stopwatch(); }

 private:
  std::vector<StepCost>& steps_;
  Stopwatch stopwatch_;
};

/// The block as its checkpoint will hold it, the same on every process.
QuantizedBlock rounded_block(const BlockStart& start, const ModelSpec& spec, const TuningRun& run, std::int64_t index) {
  QuantizedBlock rounded = round_block(start, run.recipe, index);
  broadcast(run.processes, rounded, spec, run.recipe, index);
  return rounded;
}

/// Steps 1 to 6 for one block after the other. `receive` gets each in turn.
template <typename Receive>
void quantize_blocks(const Task& task, PrefixStream& prefix, QuantizeSummary& summary, const Receive& receive) {
  const ModelSpec& spec = task.model.spec();
  const Recipe& recipe = task.run.recipe;
  StatisticsStream statistics(task.model, recipe, task.data.detection, !prefix.empty());
  SearchStream search(task.model, recipe, task.data, task.directories);
  BlockTuning tuning(task.model, task.contexts, task.data, task.run, task.directories);
  const FinishedBlocks finished(task.run.journal, task.run.processes, spec, recipe);
  ErrorStream measured(task.model, recipe, task.data);
  StepCosts costs(summary.steps);
  Progress progress("quantize", static_cast<std::size_t>(spec.block_count));
  for (std::int64_t index = 0; index < spec.block_count; ++index) {
    const Stopwatch stopwatch;
    costs.begin();
    // 1. The block, its norms fused and its weights transformed.
    SiteTransforms online;
    nn::Block block = task.model.block(index, online);
    task.contexts.set_transforms(index, online);
    const bool done = finished.contains(index);
    QuantizedBlock quantized;
    if (done) quantized = finished.block(index);
    block.key_frame = done ? restore_unquantized(quantized, spec, task.model.options()).key_frame
                           : search.key_frame(index, block, task.contexts.block(index), prefix.length());
    costs.end("loading and transforms");
    // 2. Its prefix.
    const nn::KeyValue* pinned = prefix.advance(block, index);
    const nn::BlockContext context = task.contexts.block(index, pinned);
    // 3. The ranges of what has a static scale.
    const SiteStatistics ranges = statistics.advance(index, block, context);
    tuning.advance_target(block, context, !done);
    costs.end("prefix, ranges, targets");
    std::optional<Tuning> tuned;
    if (done) {
      quantized.transforms = online;
      tuned = finished.tuning(index);
    } else {
      // 4. Start values of all quantizers.
      BlockStart start = search.find_start(index, block, context, ranges);
      costs.end("search");
      // 5. Fine-tuning.
      tuned = tuning.tune(index, start, pinned);
      if (tuned) costs.end("fine-tuning");
      // 6. Rounding.
      quantized = rounded_block(start, spec, task.run, index);
      quantized.transforms = online;
    }
    if (tuned) summary.tuning.push_back(*tuned);
    const nn::Block restored = restore_block(quantized, spec, recipe, index, task.model.options());
    const nn::Tap tap = restore_tap(quantized, recipe, index, task.model.options());
    costs.end("rounding");
    const std::optional<LayerErrors> errors =
        done ? finished.errors(index) : measured.measure(block, restored, tap, context);
    if (done) measured.advance(block, restored, tap, context);
    if (errors) summary.errors.push_back(*errors);
    block = {};
    costs.end("errors of the layers");
    if (!done) finished.save(index, quantized, tuned, errors);
    if (index + 1 < spec.block_count) {
      search.advance(restored, context, tap);
      tuning.advance(restored, context, tap);
    }
    receive(index, std::move(quantized));
    costs.end("on to the next block, writing");
    summary.block_seconds.push_back(stopwatch.seconds());
    progress.advance(1, fmt::format("{:.1f}s a block", summary.block_seconds.back()));
  }
  costs.begin();
  summary.kinds = measured.kinds(task.model);
  costs.end("errors of the layers");
  const bool by_search = searches_in_one_walk(recipe);
  summary.outliers_measured = by_search || needs_statistics(recipe);
  summary.remaining = by_search ? search.remaining() : statistics.remaining();
}

}  // namespace

Json quantize_summary_to_json(const QuantizeSummary& summary) {
  Json json{{"seconds", summary.seconds}, {"block_seconds", summary.block_seconds}};
  if (summary.outliers_measured) {
    json["remaining_outliers_per_sequence"] = summary.remaining.per_sequence;
    json["remaining_outlier_sequence_share"] = summary.remaining.sequence_share;
    json["remaining_max_ratio"] = summary.remaining.max_ratio;
  }
  if (!summary.tuning.empty()) {
    json["finetune"] = Json::array();
    for (const Tuning& tuning : summary.tuning) json["finetune"].push_back(tuning_to_json(tuning));
  }
  if (!summary.errors.empty()) {
    json["layer_errors"] = Json::array();
    for (const LayerErrors& errors : summary.errors) json["layer_errors"].push_back(layer_errors_to_json(errors));
  }
  if (!summary.kinds.empty()) json["kind_kl"] = kind_damage_to_json(summary.kinds);
  json["steps"] = Json::array();
  for (const StepCost& step : summary.steps) {
    json["steps"].push_back(
        {{"name", step.name}, {"seconds", step.seconds}, {"private_memory_bytes", step.private_bytes}});
  }
  if (summary.end_to_end) json["e2e"] = tuning_to_json(*summary.end_to_end);
  return json;
}

QuantizeSummary quantize_model(const io::HfCheckpoint& checkpoint, const Recipe& recipe,
                               const std::vector<std::int32_t>& prefix_ids, const CalibrationData& sequences,
                               const at::TensorOptions& options, QuantizedModelSink& sink, const QuantizeWork& work) {
  const at::NoGradGuard no_grad;
  const PhaseTimer timer("quantize");
  const ModelSpec& spec = checkpoint.spec();
  const CalibrationData data = behind_prefix(sequences, prefix_ids);
  const TransformedModel model(checkpoint, recipe, options);
  const std::int64_t longest = std::max({data.detection.length(), data.search.length(), data.tuning.length(),
                                         std::min(recipe.search.positions, spec.max_positions)});
  nn::ModelContext contexts(spec, online_rotations(spec, recipe.rotate),
                            static_cast<std::int64_t>(prefix_ids.size()) + longest, options);
  Communicator& processes = Communicator::world();
  const SequenceShards shards(data.tuning.samples(), data.validation.samples(), recipe.finetune.batch, processes.rank(),
                              processes.size());
  const TuningRun run{recipe, shards, processes, work.journal};
  PrefixStream prefix(model, contexts, prefix_ids);

  QuantizeSummary summary;
  std::vector<QuantizedBlock> held;  // with the second phase, which the sink waits for
  const bool second_phase = recipe.finetune.e2e_epochs > 0;
  model.embedding_rows([&](const auto& bits) { sink.embedding_rows(bits); });
  quantize_blocks({model, contexts, data, run, work.streams}, prefix, summary,
                  [&](std::int64_t index, QuantizedBlock block) {
                    second_phase ? held.push_back(std::move(block)) : sink.block(index, std::move(block));
                  });
  if (second_phase) {
    summary.end_to_end = tune_scales(held, model, contexts, prefix, data, run);
    for (std::size_t i = 0; i < held.size(); ++i) sink.block(static_cast<std::int64_t>(i), std::move(held[i]));
  }
  sink.final_norm(to_floats(model.final_norm()));
  model.lm_head_rows([&](const auto& bits) { sink.lm_head_rows(bits); });
  sink.prefix(prefix.prefix());
  summary.seconds = timer.seconds();
  return summary;
}

}  // namespace pq::quant
