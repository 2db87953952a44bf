#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "base/json.h"
#include "io/hf_checkpoint.h"
#include "model/recipe.h"
#include "quant/calibration.h"
#include "quant/outliers.h"
#include "quant/quantized_model.h"

namespace pq::quant {

/// Calibration sequences sampled from the model itself, from its start token; the whole model is in memory meanwhile.
CalibrationData calibration_from_model(const io::HfCheckpoint& checkpoint, const Tokenizer& tokenizer,
                                       const Recipe& recipe, const at::TensorOptions& options);

/// What quantizing a model took and left behind.
struct QuantizeSummary {
  double seconds = 0;
  std::vector<double> block_seconds;
  /// Upper outliers at down_proj's input with the prefix in place, the worst block; only measured where statistics are
  /// (static recipes).
  bool outliers_measured = false;
  double remaining_outliers = 0;  ///< a sequence
  double remaining_ratio = 0;     ///< largest ratio to the median
};
Json quantize_summary_to_json(const QuantizeSummary& summary);

/// ALGORITHM.md section 1 from the rotations on: prefix K/V, statistics, grid search, rounding, block by block, with
/// one block in memory at a time. `options` gives dtype (float32) and device.
QuantizeSummary quantize_model(const io::HfCheckpoint& checkpoint, const Recipe& recipe,
                               const std::vector<std::int32_t>& prefix_ids, const CalibrationData& data,
                               const at::TensorOptions& options, QuantizedModelSink& sink);

}  // namespace pq::quant
