#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "io/quantized_checkpoint.h"
#include "pipeline/number_kind.h"
#include "pipeline/transformed_model.h"
#include "quant/layer_errors.h"

namespace pq::quant {

/// KL divergence in nats, mean over tokens, of KL(whole model || model with this alone quantized).
struct LinearDamage {
  std::int64_t block = 0;
  LinearId linear = LinearId::q;
  double kl = 0;
};

/// What quantizing each part of a model does, held against the model that it was made from, both behind the
/// checkpoint's prefix.
struct CheckpointDamage {
  std::vector<LayerErrors> errors;    ///< one a block, on what the whole blocks before it give
  std::vector<double> blocks;         ///< KL with only this block quantized
  std::vector<KindDamage> kinds;      ///< KL with only this kind of numbers quantized, in all blocks
  double all = 0;                     ///< KL with all quantized
  std::vector<LinearDamage> linears;  ///< KL with this layer alone quantized, the largest first
  double perplexity = 0;              ///< of the whole model on the tokens
  double quantized_perplexity = 0;    ///< and with all quantized
  std::int64_t sequences = 0;
  std::int64_t length = 0;  ///< tokens a sequence
};

/// The linear layers whose KL is worth measuring: the `most` with the largest share of their block's KL, by the error
/// that each leaves in the block's output.
std::vector<LinearDamage> suspects(const std::vector<LayerErrors>& errors, const std::vector<double>& block_kl,
                                   std::size_t most);

/// Measures it on `tokens` [sequences, length] int64. `whole` is the model of `quantized`, behind the recipe's
/// transforms. `measured_linears`: of how many layers the KL is measured.
/// The stream that comes through the whole blocks is computed once, and every part goes on from there: with n blocks,
/// n^2 / 2 passes of a block for the blocks, 10 n for kinds and all, 13 n for the errors (on 2048 tokens at
/// most), n / 2 for each linear layer, and n once more; one block is in memory at a time, and a stream for every part.
CheckpointDamage checkpoint_damage(const TransformedModel& whole, const io::QuantizedCheckpoint& quantized,
                                   const at::Tensor& tokens, std::size_t measured_linears = 20);

/// Mean KL(reference || model) in nats over tokens, of the hidden states [.., hidden] behind the last block.
struct Head {
  const ModelSpec& spec;
  at::Tensor final_norm;  // [hidden]
  at::Tensor lm_head;     // [vocab, hidden]
};
std::vector<double> mean_kl(const Head& head, const at::Tensor& reference, const std::vector<at::Tensor>& models);
/// Of predicting each sequence's next tokens; hidden [sequences, length, hidden], tokens [sequences, length].
double perplexity(const Head& head, const at::Tensor& hidden, const at::Tensor& tokens);

}  // namespace pq::quant
