#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <string>
#include <vector>

#include "model/recipe.h"
#include "nn/block.h"
#include "quant/block_start.h"
#include "tuning/trainable_sites.h"
#include "tuning/training_loop.h"

namespace pq::quant {

/// A scale that shrank to this share of its start has lost its tensor: no step of the optimizer takes it further.
inline constexpr double smallest_scale_share = 0.01;

/// The learning rate that `rate` stands for, for a tensor with changes of size `unit` that matter: with relative_rates
/// in proportion to it.
double learning_rate(const FinetuneSettings& settings, double rate, double unit);
/// The unit of a tensor of scales: their mean size.
double scale_unit(const at::Tensor& scale);

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

/// One block with everything that fine-tuning trains as float32 parameters: weights, scales and zero points of
/// weights, static scales and zero points or dynamic clip factors of activations, K and V (ALGORITHM.md section 7).
/// Norms and biases stay as they are.
class TrainableBlock {
 public:
  /// `compute` is the type of the steps' arithmetic. Parameters lie on `options`' device.
  TrainableBlock(const BlockStart& start, const Recipe& recipe, at::ScalarType compute,
                 const at::TensorOptions& options);

  /// Runs the weights' quantizers. Without gradients the result is the block that a checkpoint would hold, in
  /// `compute`.
  QuantizedWeights quantized_weights() const;
  /// The activation and KV quantizers.
  nn::Tap tap() const { return sites_->tap(); }

  /// In a fixed order, named "self_attn.q_proj.weight", "mlp.down_input.scale".
  const std::vector<Trainee::Parameter>& parameters() const { return parameters_; }
  /// Those of the activation and KV quantizers, which get their gradients from the micro-batches themselves.
  std::vector<at::Tensor> site_parameters() const;

  /// After a step: scales and clip factors stay positive, zero points inside 16 bits.
  void keep_in_range();
  /// Takes over the values of a block of the same recipe.
  void copy_values(const TrainableBlock& other);
  /// What the checkpoint will hold, before rounding to codes.
  BlockStart trained() const;

 private:
  enum class Kind { weight, weight_quantizer, site };
  struct TrainableWeight {
    at::Tensor weight;      // [out, in]
    at::Tensor scale;       // [out * groups]
    at::Tensor zero_point;  // [out * groups], or undefined
  };

  /// `unit` is the size of a change that matters: the scale of what is rounded; 1 for zero points and clip factors.
  at::Tensor add_parameter(std::string name, const at::Tensor& value, Kind kind, double unit);
  at::Tensor fake_quantize_weight(const TrainableWeight& parameters) const;

  Recipe recipe_;
  at::ScalarType compute_;
  nn::Block frozen_;        // norms and biases in `compute`
  nn::Block float_frozen_;  // in float32, for export
  PerLinear<TrainableWeight> weights_;
  std::unique_ptr<TrainableSites> sites_;
  std::vector<Trainee::Parameter> parameters_;
  std::vector<Kind> kinds_;         // of each parameter
  std::vector<at::Tensor> floors_;  // smallest value of each parameter; undefined: no limit
};

}  // namespace pq::quant
