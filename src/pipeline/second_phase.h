#pragma once

#include <vector>

#include "nn/model_context.h"
#include "pipeline/calibration.h"
#include "pipeline/prefix_stream.h"
#include "pipeline/transformed_model.h"
#include "tuning/tuning_loop.h"

namespace pq::quant {

/// The second phase of fine-tuning, over all blocks: their weight scales, end to end. Every process calls it alike.
Tuning tune_scales(std::vector<QuantizedBlock>& blocks, const TransformedModel& model, const nn::ModelContext& contexts,
                   const PrefixStream& prefix, const CalibrationData& data, const TuningRun& run);

}  // namespace pq::quant
