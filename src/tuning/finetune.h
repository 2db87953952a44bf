#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "nn/block.h"
#include "quant/block_start.h"
#include "tuning/training_step.h"

namespace pq::quant {

/// Trains block `index` from `start` (ALGORITHM.md section 7; paper 4.3; EfficientQAT's Block-AP) as train() says, and
/// leaves the trained values in `start`, which keeps its own when validation ends worse than it began.
Tuning finetune_block(std::int64_t index, BlockStart& start, const nn::BlockContext& context,
                      const TrainingStreams& streams, const TuningRun& run, const at::TensorOptions& options);

}  // namespace pq::quant
