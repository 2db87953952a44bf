#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <optional>

#include "nn/model_context.h"
#include "pipeline/calibration.h"
#include "pipeline/transformed_model.h"
#include "tuning/stream_place.h"
#include "tuning/tune_block.h"

namespace pq::quant {

/// Where activation streams go.
struct StreamDirectories {
  std::filesystem::path asked;    ///< empty: memory where they fit
  std::filesystem::path scratch;  ///< and else here
};

/// The sequences that this process tunes and judges with, in the order of SequenceShards::owned().
CalibrationSet owned_sequences(const CalibrationData& data, const SequenceShards& shards);

/// The streams that blocks are tuned on: the full-precision one and the one that comes through the quantized blocks.
/// Does nothing in a run that tunes no blocks. All calls are made by every process alike.
class BlockTuning {
 public:
  /// All but `directories` are borrowed.
  BlockTuning(const TransformedModel& model, const nn::ModelContext& contexts, const CalibrationData& data,
              const TuningRun& run, const StreamDirectories& directories);

  /// What block `index` has to reproduce: the full-precision stream goes through it. `learns`: whether it will be
  /// tuned.
  void advance_target(const nn::Block& block, const nn::BlockContext& context, bool learns);
  /// Tunes block `index` from `start` and leaves there what it learned.
  std::optional<Tuning> tune(std::int64_t index, BlockStart& start, const nn::KeyValue* prefix);
  /// The other stream goes through the block as its checkpoint holds it.
  void advance(const nn::Block& restored, const nn::BlockContext& context, const nn::Tap& tap);

 private:
  bool active() const { return streams_.input.defined(); }

  const nn::ModelContext& contexts_;
  const TuningRun& run_;
  TuningStreams streams_;
};

}  // namespace pq::quant
