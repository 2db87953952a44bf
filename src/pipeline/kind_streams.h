#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "nn/block.h"
#include "pipeline/number_kind.h"
#include "pipeline/transformed_model.h"

namespace pq::quant {

/// A stream through the whole model, and one for each kind of numbers through the model in which that alone is
/// quantized: what each kind costs in the logits, found while the blocks go by.
class KindStreams {
 public:
  /// Without kinds: does nothing.
  KindStreams() = default;
  /// `embedded` [sequences, length, hidden].
  KindStreams(std::vector<NumberKind> kinds, const at::Tensor& embedded);

  void advance(const nn::Block& whole, const nn::Block& rounded, const nn::Tap& tap, const nn::BlockContext& context);

  /// Behind the last block. A pass over lm_head, some rows of it in memory at a time.
  std::vector<KindDamage> damage(const TransformedModel& model) const;

 private:
  std::vector<NumberKind> kinds_;
  at::Tensor whole_;
  std::vector<at::Tensor> streams_;  // one a kind
};

/// Mean KL(reference || model) in nats over tokens, of hidden states [.., hidden] behind the last block of `whole`.
/// NaN where logits are not finite. Some rows of lm_head are in memory at a time.
std::vector<double> streamed_kl(const TransformedModel& whole, const at::Tensor& reference,
                                const std::vector<at::Tensor>& models);

}  // namespace pq::quant
