#pragma once

#include <ATen/ATen.h>

#include <optional>

#include "nn/block.h"
#include "pipeline/calibration.h"
#include "pipeline/transformed_model.h"
#include "quant/layer_errors.h"

namespace pq::quant {

/// A few tokens of the search's sequences that come through the quantized blocks, on which the errors of every block
/// and linear layer are measured once it is rounded. It is the root process's; the others measure nothing.
/// So few (2 sequences of 64 tokens), because a measurement takes 12 forward passes of the block: some 5% of the
/// products of a run that searches on 8 x 1024 tokens. `pq analyze OUT` measures on more.
class ErrorStream {
 public:
  ErrorStream(const TransformedModel& model, const CalibrationData& data);

  /// The block's errors; the stream goes through `rounded`. Nothing where this process measures none.
  std::optional<LayerErrors> measure(const nn::Block& whole, const nn::Block& rounded, const nn::Tap& tap,
                                     const nn::BlockContext& context);
  /// Goes through a block that was measured before.
  void advance(const nn::Block& rounded, const nn::Tap& tap, const nn::BlockContext& context);

 private:
  at::Tensor stream_;  // [sequences, tokens, hidden]
};

}  // namespace pq::quant
