#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <vector>

#include "nn/block.h"
#include "pipeline/calibration.h"
#include "pipeline/kind_streams.h"
#include "pipeline/transformed_model.h"
#include "quant/layer_errors.h"

namespace pq::quant {

/// A few tokens of the search's sequences that come through the quantized blocks, on which the errors of every block
/// and linear layer are measured once it is rounded, and what each kind of numbers costs in the logits. It is the root
/// process's; the others measure nothing.
/// So few (2 sequences of 64 tokens), because this takes 22 forward passes of the block: some 13% of the time of a run
/// that searches on 8 x 1024 tokens. `pq analyze OUT` measures on more.
class ErrorStream {
 public:
  ErrorStream(const TransformedModel& model, const Recipe& recipe, const CalibrationData& data);

  /// The block's errors; the stream goes through `rounded`. Nothing where this process measures none.
  std::optional<LayerErrors> measure(const nn::Block& whole, const nn::Block& rounded, const nn::Tap& tap,
                                     const nn::BlockContext& context);
  /// Goes through a block that was measured before.
  void advance(const nn::Block& whole, const nn::Block& rounded, const nn::Tap& tap, const nn::BlockContext& context);
  /// Behind the last block.
  std::vector<KindDamage> kinds(const TransformedModel& model) const { return kinds_.damage(model); }

 private:
  at::Tensor stream_;  // [sequences, tokens, hidden]
  KindStreams kinds_;
};

}  // namespace pq::quant
