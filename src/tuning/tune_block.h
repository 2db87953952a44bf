#pragma once

#include "quant/block_start.h"
#include "tuning/tuning_step.h"

namespace pq::quant {

/// Tunes the block at `place` from `start` (ALGORITHM.md section 7; paper 4.3; EfficientQAT's Block-AP) as tune() says,
/// and leaves the tuned values in `start`, which keeps its own when validation ends worse than it began.
Tuning tune_block(const BlockPlace& place, BlockStart& start, const TuningStreams& streams, const TuningRun& run);

}  // namespace pq::quant
