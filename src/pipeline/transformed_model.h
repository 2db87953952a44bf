#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "io/hf_checkpoint.h"
#include "model/recipe.h"
#include "nn/block.h"
#include "quant/transform.h"

namespace pq::quant {

/// The unquantized model behind the recipe's function-preserving transforms, read from its checkpoint piece by piece:
/// one block at a time is in memory. `checkpoint` is borrowed.
class TransformedModel {
 public:
  /// `options`: dtype and device of the tensors that it gives.
  TransformedModel(const io::HfCheckpoint& checkpoint, const Recipe& recipe, const at::TensorOptions& options);

  const ModelSpec& spec() const { return checkpoint_.spec(); }
  const at::TensorOptions& options() const { return options_; }

  /// Block `index`, transformed; what stays online there goes to `online`.
  nn::Block block(std::int64_t index, SiteTransforms& online) const;
  /// Embeddings of `tokens` [sequences, length] int64 as the quantized checkpoint will hold them, rounded to binary16:
  /// [sequences, length, hidden].
  at::Tensor embed(const at::Tensor& tokens) const;
  at::Tensor final_norm() const;
  /// lm_head as the quantized checkpoint will hold it, rounded to binary16: [vocab, hidden] in `type`.
  at::Tensor lm_head(at::ScalarType type) const;

  /// Gets the bits of some whole rows in binary16, in order. Throws UnsupportedError for values beyond its range.
  using ReceiveRows = std::function<void(const std::vector<std::uint16_t>& bits)>;
  void embedding_rows(const ReceiveRows& receive) const;
  void lm_head_rows(const ReceiveRows& receive) const;

 private:
  void each_rows(std::string_view name, const std::function<at::Tensor(const at::Tensor& rows)>& transform,
                 const ReceiveRows& receive) const;

  const io::HfCheckpoint& checkpoint_;
  at::TensorOptions options_;
  TransformList transforms_;
};

}  // namespace pq::quant
