#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/dtype.h"
#include "io/gguf_metadata.h"
#include "io/quantized_checkpoint.h"
#include "model/block_layout.h"

namespace pq::exchange {

/// A tensor of a block in a GGUF file, and what of the block it holds.
struct BlockTensor {
  io::TensorDeclaration declaration;
  std::vector<LinearId> linears;  ///< whose rows follow each other in it; their biases where `bias` is set
  bool bias = false;
  std::optional<NormId> norm;
};

/// The tensors of a quantized checkpoint in GGUF, in file order: token_embd, the blocks, output_norm, output, and
/// rope_freqs where there is one. All linear layers are of type `weights`.
struct GgufPlan {
  const io::GgufArchitecture& architecture;
  io::DType weights;
  io::TensorDeclaration embedding;
  std::vector<std::vector<BlockTensor>> blocks;
  io::TensorDeclaration final_norm;
  io::TensorDeclaration lm_head;
  std::optional<io::TensorDeclaration> rope_factors;

  std::vector<io::TensorDeclaration> tensors() const;
  /// Channels of a head whose rows stand as rotation pairs in this layer; 0: rows are in our order.
  std::int64_t rope_pairs(LinearId id, const ModelSpec& spec) const;
};

/// Throws UnsupportedError where a tensor has no name in the architecture.
GgufPlan make_plan(const ModelSpec& spec, const io::GgufArchitecture& architecture, io::DType weights,
                   std::int64_t rope_factors, std::string_view where);

/// Throws UnsupportedError for what the model computes online and llama.cpp does not: rotations of a linear layer's
/// input, naming the recipe's field and what makes a checkpoint without them. One of Q and K is none: it leaves the
/// scores as they are.
void refuse_online_transforms(const SiteTransforms& transforms, std::string_view where);

/// What of the recipe has no place in a GGUF file and is left out, for people.
std::vector<std::string> left_out(const Recipe& recipe, const SiteTransforms& transforms);

}  // namespace pq::exchange
