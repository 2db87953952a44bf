#pragma once

#include <ATen/ATen.h>

#include "model/block_layout.h"
#include "nn/block.h"
#include "quant/quantizer.h"

namespace pq::quant {

/// snapped() scales of a quantized format, whose gradient passes straight through to `tuned`.
ScaleTensors held_scales(const ScaleTensors& tuned, const QuantizerFormat& format);

/// Weights of a block after their fake quantizers, as leaves of the graph of one step: the block that micro-batches run
/// through, and what takes their gradients back to the parameters.
struct QuantizedWeights {
  nn::Block block;
  PerLinear<at::Tensor> before;  // the quantizers' outputs, each still attached to its parameters

  /// Gives linear layer `id` the weight `quantized`.
  void set(LinearId id, at::Tensor quantized);
  /// Takes the gradients that the micro-batches left on the leaves back to the parameters.
  void backward() const;
};

}  // namespace pq::quant
