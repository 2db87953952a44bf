#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/random.h"
#include "io/hf_checkpoint.h"
#include "model/language_model.h"
#include "nn/block.h"
#include "nn/model_context.h"

namespace pq::nn {

/// Block `index` of a checkpoint, converted to `options` (dtype, device). Only this block's pages are read.
/// Throws FormatError for a weight that is not finite, naming the tensor.
Block load_block(const io::HfCheckpoint& checkpoint, std::int64_t index, const at::TensorOptions& options);
/// The named tensor (embedding, final norm, lm_head: the embedding where they are tied), converted to `options`.
at::Tensor load_tensor(const io::HfCheckpoint& checkpoint, std::string_view name, const at::TensorOptions& options);

/// Rows [first_row, first_row + row_count) of the embedding or of lm_head (the embedding where they are tied),
/// converted to `options`: [row_count, hidden].
at::Tensor load_rows(const io::HfCheckpoint& checkpoint, std::string_view name, std::int64_t first_row,
                     std::int64_t row_count, const at::TensorOptions& options);

/// Rows of the embedding for `tokens` [batch, tokens] (int64): [batch, tokens, hidden]. Reads only those rows of the
/// mapped file.
at::Tensor embedding_rows(const io::HfCheckpoint& checkpoint, const at::Tensor& tokens,
                          const at::TensorOptions& options);
/// The same times the model's embedding_scale: what enters the first block.
at::Tensor embed(const io::HfCheckpoint& checkpoint, const at::Tensor& tokens, const at::TensorOptions& options);

/// A whole model in memory as a LanguageModel: the reference that everything else is compared with.
class Transformer : public LanguageModel {
 public:
  /// Parts that the constructor's caller may have rotated or fake-quantized.
  struct Parts {
    ModelSpec spec;
    at::Tensor embedding;   // [vocab, hidden]
    at::Tensor final_norm;  // [hidden]
    at::Tensor lm_head;     // [vocab, hidden]
    std::vector<Block> blocks;
    std::vector<SiteTransforms> transforms;       // what stays online: one a block, or none
    std::vector<KeyValue> prefix;                 // one a block, or empty
    std::function<Tap(std::int64_t block)> taps;  // quantizers of each block; may be empty
  };
  explicit Transformer(Parts parts);
  /// The unquantized model of a checkpoint, on `device`, computing in `dtype`.
  static std::unique_ptr<Transformer> load(const io::HfCheckpoint& checkpoint, const at::TensorOptions& options);

  /// Another model over the same tensors, to be given its own prefix.
  std::unique_ptr<Transformer> share() const { return std::make_unique<Transformer>(parts_); }

  const ModelSpec& spec() const override { return parts_.spec; }
  std::int64_t prefix_length() const override;
  void run(std::span<const std::int32_t> tokens, std::int64_t sequences) override;
  void logits(std::int64_t first, std::int64_t count, std::span<float> out) override;

  /// Final hidden states (after the last norm) of `tokens` [batch, tokens] int64: [batch, tokens, hidden].
  at::Tensor hidden(const at::Tensor& tokens);
  /// lm_head of hidden states [.., hidden] -> [.., vocab].
  at::Tensor head(const at::Tensor& hidden) const;

  /// K and V of `token_ids` at positions 0 .. p-1, one KeyValue a block (batch 1), computed without any prefix.
  std::vector<KeyValue> prefix_key_values(const std::vector<std::int32_t>& token_ids);
  /// Replaces the prefix; values are rounded to binary16 first, which is what a checkpoint holds. Empty: none.
  void set_prefix(std::vector<KeyValue> prefix);

  /// Samples `count` sequences of `length` tokens at temperature 1, each beginning with `first_token` (which counts),
  /// with a KV cache. Sequence i depends on the seed and i alone, not on `count`. Returns [count][length]. `progress`
  /// counts tokens.
  std::vector<std::vector<std::int32_t>> sample(
      std::int64_t count, std::int64_t length, std::int32_t first_token, std::uint64_t seed,
      const std::function<void(std::int64_t done, std::int64_t total)>& progress = {});

 private:
  /// Block `block` behind the model's prefix.
  BlockContext context(std::int64_t block) const;
  Tap tap(std::int64_t block) const;
  at::Tensor embedded(const at::Tensor& tokens) const;
  /// One group of sequences, one generator each; appends them to `out`. `progress` gets the tokens done of each.
  void sample_batch(std::int64_t length, std::int32_t first_token, std::vector<Random>& random,
                    std::vector<std::vector<std::int32_t>>& out, const std::function<void(std::int64_t)>& progress);

  Parts parts_;
  ModelContext context_;
  at::Tensor last_hidden_;  // [sequences * tokens, hidden] of the last run
};

}  // namespace pq::nn
