#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdint>

#include "model/recipe.h"
#include "nn/block.h"
#include "pipeline/calibration.h"
#include "pipeline/transformed_model.h"
#include "quant/block_start.h"
#include "quant/token_maxima.h"

namespace pq::quant {

/// Upper outliers at down_proj's input that are left with the prefix in place, in the block that has most.
struct RemainingOutliers {
  double per_sequence = 0;
  double sequence_share = 0;  ///< share of the sequences that have any
  double max_ratio = 0;       ///< largest ratio to the median

  /// Takes in one more block's.
  void add(const SiteOutliers& block) {
    per_sequence = std::max(per_sequence, block.mean_upper);
    sequence_share = std::max(sequence_share, block.upper_share);
    max_ratio = std::max(max_ratio, block.max_ratio);
  }
};

/// Whether anything has a static scale whose range no search measures, so that statistics are needed.
bool needs_statistics(const Recipe& recipe);

/// The full-precision stream of the detection sequences behind the prefix, where what has a static scale finds its
/// range. It is the root process's; the others have none, for they are given what comes of it.
class StatisticsStream {
 public:
  /// `recipe` is borrowed.
  StatisticsStream(const TransformedModel& model, const Recipe& recipe, const CalibrationSet& sequences,
                   bool behind_prefix);

  /// Goes through block `index` and measures minimum and maximum of every quantized tensor; undefined where nothing is
  /// measured. Behind a prefix, the few tokens that are outliers all the same are exceptions that set no scale.
  SiteStatistics advance(std::int64_t index, const nn::Block& block, const nn::BlockContext& context);
  const RemainingOutliers& remaining() const { return remaining_; }

 private:
  const Recipe& recipe_;
  bool behind_prefix_;
  at::Tensor stream_;
  RemainingOutliers remaining_;
};

}  // namespace pq::quant
