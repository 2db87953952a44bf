#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "model/recipe.h"
#include "nn/block.h"
#include "pipeline/calibration.h"
#include "pipeline/transformed_model.h"
#include "quant/block_start.h"

namespace pq::quant {

/// The stream of the search sequences, come through the quantized blocks before, on which a block's quantizers find
/// their start values. It is the root process's; the others are given what it finds.
class SearchStream {
 public:
  /// `recipe` is borrowed.
  SearchStream(const TransformedModel& model, const Recipe& recipe, const CalibrationSet& sequences);

  /// Start values of block `index`, the same on every process. Takes the full-precision block over.
  BlockStart find_start(std::int64_t index, nn::Block block, const nn::BlockContext& context,
                        const SiteStatistics& statistics) const;
  /// Goes through the block as its checkpoint holds it.
  void advance(const nn::Block& restored, const nn::BlockContext& context, const nn::Tap& tap);

 private:
  const ModelSpec& spec_;
  const Recipe& recipe_;
  at::Tensor stream_;
};

}  // namespace pq::quant
