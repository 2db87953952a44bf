#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <string>
#include <vector>

#include "model/recipe.h"
#include "nn/block.h"
#include "quant/block_start.h"
#include "tuning/parameter.h"
#include "tuning/quantized_weights.h"
#include "tuning/tunable_sites.h"

namespace pq::quant {

/// One block with everything that fine-tuning tunes as float32 parameters: weights, scales and zero points of
/// weights, static scales and zero points or dynamic clip factors of activations, K and V (ALGORITHM.md section 7).
/// Norms and biases stay as they are.
class TunableBlock {
 public:
  /// `compute` is the type of the steps' arithmetic. Parameters lie on `options`' device.
  TunableBlock(const BlockStart& start, const Recipe& recipe, at::ScalarType compute, const at::TensorOptions& options);

  /// Runs the weights' quantizers. Without gradients the result is the block that a checkpoint would hold, in
  /// `compute`.
  QuantizedWeights quantized_weights() const;
  /// The activation and KV quantizers.
  nn::Tap tap() const { return sites_->tap(); }

  /// In a fixed order, named "self_attn.q_proj.weight", "mlp.down_input.scale".
  const std::vector<Parameter>& parameters() const { return parameters_; }
  /// Those of the activation and KV quantizers, which get their gradients from the micro-batches themselves.
  std::vector<at::Tensor> site_parameters() const;

  /// After a step: scales and clip factors stay positive, zero points inside 16 bits.
  void keep_in_range() { quant::keep_in_range(parameters_); }
  /// Takes over the values of a block of the same recipe.
  void copy_values(const TunableBlock& other);
  /// What the checkpoint will hold, before rounding to codes.
  BlockStart tuned() const;

 private:
  struct TunableWeight {
    at::Tensor weight;         // [out, in]
    at::Tensor scale;          // [out * groups]; [out] of two-level scales, whose group scales stay as they are
    at::Tensor zero_point;     // [out * groups], or undefined
    at::Tensor group_scale{};  // [out, groups] whole numbers of two-level scales, else undefined

    ScaleTensors group_scales() const;  // [out * groups], as they are tuned; of two-level scales the effective ones
  };

  /// `unit` is the size of a change that matters: the scale of what is rounded; 1 for zero points and clip factors.
  at::Tensor add_parameter(std::string name, ParameterKind kind, const at::Tensor& start, double unit);
  at::Tensor fake_quantize_weight(const TunableWeight& parameters) const;

  Recipe recipe_;
  at::ScalarType compute_;
  nn::Block frozen_;        // norms and biases in `compute`
  nn::Block float_frozen_;  // in float32, for export
  PerLinear<TunableWeight> weights_;
  std::unique_ptr<TunableSites> sites_;
  std::vector<Parameter> parameters_;
};

}  // namespace pq::quant
