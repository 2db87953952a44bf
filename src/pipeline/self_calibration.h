#pragma once

#include <ATen/ATen.h>

#include "io/hf_checkpoint.h"
#include "model/recipe.h"
#include "pipeline/calibration.h"
#include "tokenizer/tokenizer.h"

namespace pq::quant {

/// Calibration sequences sampled from the model itself, from its start token; the whole model is in memory meanwhile.
CalibrationData calibration_from_model(const io::HfCheckpoint& checkpoint, const Tokenizer& tokenizer,
                                       const Recipe& recipe, const at::TensorOptions& options);

}  // namespace pq::quant
