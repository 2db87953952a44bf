#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "io/model_source.h"
#include "io/quantized_checkpoint.h"
#include "model/quantized_block.h"
#include "nn/transformer.h"
#include "quant/quantizer.h"

namespace pq::quant {

/// QuantizedBlock's key_basis and key_mean as a block computes with them; what is empty is undefined.
nn::KeyFrame restore_key_frame(const std::vector<float>& basis, const std::vector<float>& mean, const ModelSpec& spec,
                               const at::TensorOptions& options);
/// What of a block is never quantized: norms, K's basis and its mean. Its linear layers are empty.
nn::Block restore_unquantized(const QuantizedBlock& block, const ModelSpec& spec, const at::TensorOptions& options);
/// Block `index` as a forward pass uses it: weights dequantized to options' dtype and device.
nn::Block restore_block(const QuantizedBlock& block, const ModelSpec& spec, const Recipe& recipe, std::int64_t index,
                        const at::TensorOptions& options);
/// Its activation and KV quantizers as a tap.
nn::Tap restore_tap(const QuantizedBlock& block, const Recipe& recipe, std::int64_t index,
                    const at::TensorOptions& options);

/// K and V of a checkpoint's prefix for one block, and the way back (rounded to binary16).
nn::KeyValue restore_prefix(const Prefix::BlockKv& kv, const ModelSpec& spec, std::int64_t tokens,
                            const at::TensorOptions& options);
Prefix::BlockKv save_prefix(const nn::KeyValue& kv);

/// Receives a quantized model in pieces, in this order: rows of the embedding, blocks 0 .. n-1, final norm, rows of
/// lm_head, prefix. Rows are binary16, whole rows, in any number of calls.
class QuantizedModelSink {
 public:
  QuantizedModelSink() = default;
  virtual ~QuantizedModelSink() = default;
  QuantizedModelSink(const QuantizedModelSink&) = delete;
  QuantizedModelSink& operator=(const QuantizedModelSink&) = delete;
  virtual void embedding_rows(std::span<const std::uint16_t> rows) = 0;
  virtual void block(std::int64_t index, QuantizedBlock block) = 0;
  virtual void final_norm(const std::vector<float>& weight) = 0;
  virtual void lm_head_rows(std::span<const std::uint16_t> rows) = 0;
  virtual void prefix(Prefix prefix) = 0;
};

/// Keeps everything: what `compare` evaluates without writing a checkpoint.
class InMemoryModel : public QuantizedModelSink {
 public:
  InMemoryModel(ModelSpec spec, Recipe recipe) : spec_(std::move(spec)), recipe_(std::move(recipe)) {}
  void embedding_rows(std::span<const std::uint16_t> rows) override;
  void block(std::int64_t index, QuantizedBlock block) override;
  void final_norm(const std::vector<float>& weight) override { final_norm_ = weight; }
  void lm_head_rows(std::span<const std::uint16_t> rows) override;
  void prefix(Prefix prefix) override { prefix_ = std::move(prefix); }

  std::unique_ptr<nn::Transformer> transformer(const at::TensorOptions& options) const;

 private:
  ModelSpec spec_;
  Recipe recipe_;
  std::vector<std::uint16_t> embedding_;
  std::vector<std::uint16_t> lm_head_;
  std::vector<float> final_norm_;
  std::vector<QuantizedBlock> blocks_;
  Prefix prefix_;
};

/// Takes everything and keeps nothing: what the processes beside the one that writes hand their blocks to.
class DiscardingSink : public QuantizedModelSink {
 public:
  void embedding_rows(std::span<const std::uint16_t>) override {}
  void block(std::int64_t, QuantizedBlock) override {}
  void final_norm(const std::vector<float>&) override {}
  void lm_head_rows(std::span<const std::uint16_t>) override {}
  void prefix(Prefix) override {}
};

/// Writes a checkpoint. commit() is the caller's, on the writer.
class CheckpointSink : public QuantizedModelSink {
 public:
  explicit CheckpointSink(io::QuantizedCheckpointWriter& writer) : writer_(writer) {}
  void embedding_rows(std::span<const std::uint16_t> rows) override {
    writer_.append_rows(tensor_names::embedding, rows);
  }
  void block(std::int64_t index, QuantizedBlock block) override { writer_.write_block(index, block); }
  void final_norm(const std::vector<float>& weight) override { writer_.write_final_norm(weight); }
  void lm_head_rows(std::span<const std::uint16_t> rows) override { writer_.append_rows(tensor_names::lm_head, rows); }
  void prefix(Prefix prefix) override;

 private:
  io::QuantizedCheckpointWriter& writer_;
};

/// The fake-quantized model of a checkpoint, whole in memory. The source's blocks are quantized ones.
std::unique_ptr<nn::Transformer> load_quantized(const io::ModelSource& source, const at::TensorOptions& options);
std::unique_ptr<nn::Transformer> load_quantized(const io::QuantizedCheckpoint& checkpoint,
                                                const at::TensorOptions& options);

}  // namespace pq::quant
