#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "model/block_layout.h"
#include "model/quantized_block.h"
#include "model/recipe.h"

namespace pq::runtime {

/// One block as it comes from a file. Sizes agree with the spec and the recipe.
struct BlockSource {
  QuantizedBlock parameters;          ///< norms, biases, scales, sites; no codes or weights
  PerLinear<io::TensorView> weights;  ///< packed codes (U8), or floating-point
  std::shared_ptr<const void> owner;  ///< of the bytes, where they are in no mapped file
};

/// Where a model's numbers come from: what is packed for the kernels, and what the reference arithmetic reads.
struct ModelSource {
  ModelSpec spec;
  Recipe recipe;  ///< 16 bits everywhere for an unquantized model
  std::filesystem::path directory;
  std::shared_ptr<const void> files;  ///< keeps alive what the views look into
  io::TensorView embedding;           ///< [vocab, hidden]
  io::TensorView lm_head;             ///< [vocab, hidden]
  std::vector<float> final_norm;      ///< [hidden]
  Prefix prefix;
  std::function<BlockSource(std::int64_t)> block;
};

/// A quantized or an unquantized checkpoint. Throws as Model::load.
ModelSource open_model(const std::string& model);
/// Throws as Model::random.
ModelSource random_source(const ModelSpec& spec, const Recipe& recipe, std::int64_t prefix_tokens);

/// Throws UnsupportedError for a shape that is beyond the runtime; `where` names the model.
void check_shape(const ModelSpec& spec, std::string_view where);

}  // namespace pq::runtime
