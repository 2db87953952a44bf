#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "io/hf_checkpoint.h"
#include "model/recipe.h"
#include "pipeline/calibration.h"

namespace pq::quant {

/// How much worse a symmetric scale holds K and V than one with a zero point.
struct KvSymmetry {
  double worst_ratio = 0;  ///< squared error with symmetric scales over that with zero points, in the worst block
  std::int64_t worst_block = 0;
  /// A range that is one-sided costs a symmetric scale up to one bit, a factor of four; values around 0 cost it up to
  /// about 1.3, from the ends of the range alone.
  bool symmetric_suffices() const { return worst_ratio < 2; }
};

/// Quantizes K and V of a few calibration sequences both ways, with the recipe's KV format, after RoPE and R3 and
/// without clipping: K biases as large as Qwen2.5's move all of a head to one side. The first token is left out, as the
/// prefix takes its place. Zero when the recipe does not quantize the KV cache.
KvSymmetry measure_kv_symmetry(const io::HfCheckpoint& checkpoint, const CalibrationSet& set, const Recipe& recipe,
                               const at::TensorOptions& options);

}  // namespace pq::quant
