#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "model/quantized_block.h"
#include "nn/model_context.h"
#include "tuning/quantized_weights.h"
#include "tuning/tunable_sites.h"
#include "tuning/tuning_loop.h"

namespace pq::quant {

/// What a quantized model has beside its blocks, as its checkpoint will hold it. The context is borrowed.
struct EndToEndModel {
  const nn::ModelContext* context = nullptr;
  std::vector<nn::KeyValue> prefix;  // one a block, or empty
  at::Tensor final_norm;             // [hidden]
  at::Tensor lm_head;                // [vocab, hidden]
  /// Embedding rows of tokens [batch, tokens] int64: [batch, tokens, hidden].
  std::function<at::Tensor(const at::Tensor& tokens)> embed;
};

/// The weight scales of all blocks as the only parameters, and their gradients of the mean negative log-likelihood of
/// each sequence's tokens after its first. Codes, zero points and the quantizers of activations and caches stay; the
/// latter pass gradients as in fake_quantize.h. A part of a batch goes forward block by block with each block's input
/// kept, then backward block by block, each computed again from its input: the weights of one block at a time exist in
/// floating point.
class ScaleTuning : public Tunable {
 public:
  /// `tokens` [rows, length] int64: the sequences of SequenceShards::owned(), of 2 tokens or more. `blocks` is borrowed
  /// and read in every step, but for its scales, which are those to begin with. Throws InputError when blocks, model
  /// and tokens do not fit together.
  ScaleTuning(const std::vector<QuantizedBlock>& blocks, const EndToEndModel& model, const at::Tensor& tokens,
              const TuningRun& run, const at::TensorOptions& options);

  /// In the order of blocks and all_linears, "model.layers.0.self_attn.q_proj.scales": [out, groups]; of two-level
  /// weights the channel scales, [out, 1].
  const std::vector<Parameter>& parameters() const override { return parameters_; }
  /// The quantized linear layer that each of them is the scales of.
  struct Layer {
    std::size_t block;
    LinearId id;
  };
  const std::vector<Layer>& layers() const { return layers_; }
  double gradients(const SequenceShards::Batch& batch) override;
  double judge() override;
  void restore() override;

 private:
  at::Tensor start_scales(std::size_t parameter) const;
  nn::BlockContext context(std::int64_t index) const;
  QuantizedWeights quantized_weights(std::int64_t index) const;
  /// Final hidden states [batch, length, hidden] of `tokens`, before the last norm. Each block's input goes to `inputs`
  /// where that is given.
  at::Tensor forward(const at::Tensor& tokens, std::vector<at::Tensor>* inputs) const;
  /// Leaves one block's gradients on its scales; returns its input's, undefined for the first block.
  at::Tensor backward(std::int64_t index, at::Tensor input, const at::Tensor& gradient) const;
  /// The part's share of a mean over `count` tokens, and the gradient of the final hidden states where it is wanted.
  /// Logits exist for a slice of the tokens at a time.
  double loss(const at::Tensor& hidden, const at::Tensor& tokens, double count, at::Tensor* gradient) const;

  const std::vector<QuantizedBlock>& blocks_;
  const EndToEndModel& model_;
  const ModelSpec& spec_;
  const TuningRun& run_;
  at::TensorOptions options_;  // of the arithmetic
  at::Tensor tokens_;
  nn::ModelContext context_;
  std::vector<nn::KeyValue> prefix_;
  at::Tensor final_norm_;
  at::Tensor lm_head_;
  std::vector<std::unique_ptr<TunableSites>> sites_;  // one a block
  std::vector<Parameter> parameters_;
  std::vector<Layer> layers_;                 // one a parameter
  std::vector<std::size_t> first_parameter_;  // of each block's
};

/// The second phase of EfficientQAT (E2E-QP; arXiv 2407.11062, section 3.3): tunes the weight scales of `blocks` as
/// tune() says and leaves them there, the same on every process.
Tuning tune_end_to_end(std::vector<QuantizedBlock>& blocks, const EndToEndModel& model, const at::Tensor& tokens,
                       const TuningRun& run, const at::TensorOptions& options);

}  // namespace pq::quant
