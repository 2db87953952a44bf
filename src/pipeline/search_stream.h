#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "model/recipe.h"
#include "nn/block.h"
#include "pipeline/block_tuning.h"
#include "pipeline/calibration.h"
#include "pipeline/statistics_stream.h"
#include "pipeline/transformed_model.h"
#include "quant/block_start.h"

namespace pq::quant {

/// The stream of the search sequences, come through the quantized blocks before, on which a block's quantizers find
/// their start values. It is the root process's; the others are given what it finds.
class SearchStream {
 public:
  /// `recipe` is borrowed.
  SearchStream(const TransformedModel& model, const Recipe& recipe, const CalibrationData& data,
               const StreamDirectories& directories);

  /// The basis and the mean of K of block `index` in full precision behind `first_position` positions, the same on
  /// every process; undefined where the recipe has none (BlockFormats::balance_keys, center_keys). Takes a block
  /// without them.
  nn::KeyFrame key_frame(std::int64_t index, const nn::Block& block, const nn::BlockContext& context,
                         std::int64_t first_position) const;
  /// Start values of block `index`, the same on every process. Takes the full-precision block over.
  BlockStart find_start(std::int64_t index, nn::Block block, const nn::BlockContext& context,
                        const SiteStatistics& statistics);
  /// Goes through the block as its checkpoint holds it.
  void advance(const nn::Block& restored, const nn::BlockContext& context, const nn::Tap& tap);
  /// What was seen at down_proj's input, where the search measured it.
  const RemainingOutliers& remaining() const { return remaining_; }

 private:
  const ModelSpec& spec_;
  const Recipe& recipe_;
  std::int64_t search_sequences_ = 0;  ///< the first ones of the stream; the rest are GPTQ's
  at::Tensor stream_;
  bool advanced_ = false;  ///< finding a block's start values has taken the stream behind it
  RemainingOutliers remaining_;
};

}  // namespace pq::quant
