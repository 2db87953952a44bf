#include "pipeline/block_tuning.h"

#include <fmt/format.h>

#include "base/phase_timer.h"
#include "pipeline/streams.h"

namespace pq::quant {

CalibrationSet owned_sequences(const CalibrationData& data, const SequenceShards& shards) {
  CalibrationSet owned;
  for (const std::int64_t sequence : shards.owned()) {
    const auto i = static_cast<std::size_t>(sequence);
    const std::size_t count = data.tuning.sequences.size();
    owned.sequences.push_back(i < count ? data.tuning.sequences[i] : data.validation.sequences[i - count]);
  }
  return owned;
}

BlockTuning::BlockTuning(const TransformedModel& model, const nn::ModelContext& contexts, const CalibrationData& data,
                         const TuningRun& run, const StreamDirectories& directories)
    : contexts_(contexts), run_(run) {
  if (run.recipe.finetune.epochs <= 0) return;
  const CalibrationSet owned = owned_sequences(data, run.shards);
  const std::int64_t rows = owned.samples();
  const std::int64_t length = data.tuning.length();
  const std::int64_t hidden = model.spec().hidden_size;
  const bool aside = run.recipe.finetune.target != TuningTarget::full_precision;
  const auto bytes = static_cast<std::uint64_t>(rows * length * hidden) * sizeof(float);
  const StreamPlace place = StreamPlace::choose(bytes * (aside ? 3 : 2), directories.asked, directories.scratch);
  const auto allocate = [&] { return place.allocate({rows, length, hidden}); };
  streams_.input = embedded_stream(model, owned, place);
  streams_.target = allocate();
  if (aside) streams_.quantized_target = allocate();
  streams_.target.copy_(streams_.input);
}

void BlockTuning::advance_target(const nn::Block& block, const nn::BlockContext& context, bool learns) {
  if (!active()) return;
  propagate(block, context, streams_.target);
  if (!streams_.quantized_target.defined() || !learns) return;
  streams_.quantized_target.copy_(streams_.input);
  propagate(block, context, streams_.quantized_target);
}

std::optional<Tuning> BlockTuning::tune(std::int64_t index, BlockStart& start, const nn::KeyValue* prefix) {
  if (!active()) return std::nullopt;
  const PhaseTimer timer(fmt::format("block {}: fine-tuning", index));
  const at::Tensor& judged = streams_.quantized_target.defined() ? streams_.quantized_target : streams_.target;
  streams_.weight = token_weights(judged, run_.recipe, prefix != nullptr);
  return tune_block({contexts_, index, prefix}, start, streams_, run_);
}

void BlockTuning::advance(const nn::Block& restored, const nn::BlockContext& context, const nn::Tap& tap) {
  if (active()) propagate(restored, context, streams_.input, tap);
}

}  // namespace pq::quant
