#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "io/block_source.h"
#include "io/foreign_checkpoint.h"
#include "io/hf_checkpoint.h"
#include "io/quantized_checkpoint.h"
#include "io/safetensors.h"
#include "model/block_layout.h"
#include "model/quantized_block.h"
#include "model/recipe.h"

namespace pq::io {

/// Where a model's numbers come from: what is packed for the kernels, and what the reference arithmetic reads.
struct ModelSource {
  ModelSpec spec;
  Recipe recipe;                      ///< 16 bits everywhere for an unquantized model
  std::filesystem::path path;         ///< the directory, or the GGUF file
  std::shared_ptr<const void> files;  ///< keeps alive what the views look into
  TensorView embedding;               ///< [vocab, hidden]
  TensorView lm_head;                 ///< [vocab, hidden]
  std::vector<float> final_norm;      ///< [hidden]
  Prefix prefix;
  std::function<BlockSource(std::int64_t)> block;
};

/// A block in memory, which has to outlive the result, as if it came from a file.
BlockSource source_of(const QuantizedBlock& block);
/// The way back: `parameters` with the codes (U8) or 16-bit weights (F16) that lie in the views copied into it. Throws
/// UnsupportedError for weights of another type.
QuantizedBlock whole_block(BlockSource source);

/// The checkpoint has to outlive the source, unless `files` holds it.
ModelSource source_of(const QuantizedCheckpoint& checkpoint);
ModelSource source_of(const HfCheckpoint& checkpoint);
ModelSource source_of(const ForeignCheckpoint& checkpoint);
/// A checkpoint, quantized by this program or another or not at all, kept open; `context` as for HfCheckpoint::open,
/// and without meaning for one that this program quantized, which was made for a context. Throws what opening them
/// throws.
ModelSource open_model_source(const std::string& model, std::int64_t context = 0);

}  // namespace pq::io
