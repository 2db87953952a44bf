#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "io/hf_checkpoint.h"
#include "io/resume_journal.h"
#include "model/recipe.h"
#include "pipeline/block_tuning.h"
#include "pipeline/calibration.h"
#include "pipeline/number_kind.h"
#include "pipeline/statistics_stream.h"
#include "quant/layer_errors.h"
#include "quant/quantized_model.h"
#include "tuning/tuning_loop.h"

namespace pq::quant {

/// A step of quantizing, over all blocks.
struct StepCost {
  std::string name;
  double seconds = 0;
  std::uint64_t private_bytes = 0;  ///< anonymous memory at its end, in the block that had most
};

/// What quantizing a model took and left behind.
struct QuantizeSummary {
  double seconds = 0;
  std::vector<double> block_seconds;
  bool outliers_measured = false;  ///< only where something is searched or static
  RemainingOutliers remaining;
  std::vector<Tuning> tuning;        ///< one a block, with fine-tuning
  std::optional<Tuning> end_to_end;  ///< with the second phase
  std::vector<LayerErrors> errors;   ///< one a block, before the second phase; on the root process
  std::vector<KindDamage> kinds;     ///< of every kind of numbers, before the second phase; on the root process
  std::vector<StepCost> steps;       ///< of this run; in a resumed one without the finished blocks' search and tuning
};
Json quantize_summary_to_json(const QuantizeSummary& summary);

/// How the work goes about; nothing here changes the result.
struct QuantizeWork {
  io::ResumeJournal* journal = nullptr;  ///< of the root process: where finished work is saved and found again
  StreamDirectories streams;             ///< of the fine-tuning
};

/// The method from the rotations on (paper, section 4): prefix K/V, statistics, grid search, fine-tuning where the
/// recipe asks for it, rounding, block by block, with one block in memory at a time; then, where the recipe asks for
/// it, the second phase over all of them, whose codes are in memory for it. `options` gives dtype (float32)
/// and device. Every process of an `mpirun` calls it alike; its sink gets the same blocks everywhere.
QuantizeSummary quantize_model(const io::HfCheckpoint& checkpoint, const Recipe& recipe,
                               const std::vector<std::int32_t>& prefix_ids, const CalibrationData& data,
                               const at::TensorOptions& options, QuantizedModelSink& sink,
                               const QuantizeWork& work = {});

}  // namespace pq::quant
