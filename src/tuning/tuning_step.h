#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "model/recipe.h"
#include "nn/model_context.h"
#include "tuning/tunable_block.h"
#include "tuning/tuning_loop.h"

namespace pq::quant {

/// What a block learns from: rows in the order of SequenceShards::owned(), on the CPU.
struct TuningStreams {
  at::Tensor input;             // [rows, tokens, hidden], come through the quantized blocks before
  at::Tensor target;            // [rows, tokens, hidden], the full-precision block on the full-precision stream
  at::Tensor quantized_target;  // the full-precision block on `input`; TuningTarget quantized and both
  at::Tensor weight;            // [rows, tokens] float32, of a token's squared error; undefined: 1
};

/// How much each token's squared error counts in the loss: 0 for each sequence's 3 tokens of largest mean |target| with
/// skip_mse, and behind a prefix for the few that are upper outliers all the same, as in the grid search: one of them
/// would outweigh thousands. With TuningLoss::normalized 1 / mean(target^2), else 1. target [rows, tokens, hidden] ->
/// [rows, tokens] float32; undefined when it is 1 for all.
at::Tensor token_weights(const at::Tensor& target, const Recipe& recipe, bool behind_prefix);

/// The type that a recipe's tuning steps compute in.
at::ScalarType compute_type(const Recipe& recipe);

/// A batch's rows in parts of a few sequences of `length` tokens, int64: at least one sequence, and no more tokens than
/// stay near the processor's caches.
std::vector<at::Tensor> parts_of_batch(const std::vector<std::int64_t>& rows, std::int64_t length,
                                       const at::Device& device);

/// Where the block that is tuned stands. All borrowed.
struct BlockPlace {
  const nn::ModelContext& model;
  std::int64_t index;
  const nn::KeyValue* prefix;  ///< of this block; null: none
};

/// Loss and gradients of a block over batches of the streams. A batch goes through in parts of a few sequences, whose
/// gradients add up, so that the memory of a step does not grow with the batch.
class TuningStep {
 public:
  TuningStep(const BlockPlace& place, const TuningStreams& streams, const TuningRun& run);

  /// Leaves the batch's gradients, summed over all processes, on the block's parameters. Returns the batch's loss.
  double gradients(const TunableBlock& block, const SequenceShards::Batch& batch);
  /// Mean loss over the sequences that judge.
  double judge(const TunableBlock& block);

 private:
  at::Tensor loss_of(const nn::Block& block, const nn::Tap& tap, const at::Tensor& rows, double elements) const;
  std::vector<at::Tensor> parts(const std::vector<std::int64_t>& rows) const;
  void sum_gradients(const QuantizedWeights& weights, const TunableBlock& block) const;

  const TuningStreams& streams_;
  const TuningRun& run_;
  at::TensorOptions options_;  // of the arithmetic
  nn::ModelContext model_;
  nn::KeyValue prefix_;
  nn::BlockContext context_;
};

}  // namespace pq::quant
