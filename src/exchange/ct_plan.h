#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "io/dtype.h"
#include "io/foreign_config.h"
#include "io/quantized_checkpoint.h"

namespace pq::exchange {

/// How a quantized checkpoint stands in compressed-tensors' format (docs/export.md).
struct CtPlan {
  std::string scheme;                 ///< "W4A16", "W8A8", "W4A8"
  io::ForeignLayout layout;           ///< pack_quantized or int_quantized
  io::DType real;                     ///< of all that is not quantized, and of the scales of packed weights
  bool scales_fit;                    ///< whether the file's type holds them as they are
  Json quantization_config;           ///< for config.json
  std::vector<std::string> left_out;  ///< what does not go along, for people
};

/// "float16", as config.json says it.
std::string_view torch_dtype(io::DType real);

/// Maps a checkpoint. Throws UnsupportedError for what the format, or every program that runs it, has no place for:
/// transforms that are computed while the model runs, static activations of 4 bits, groups that do not divide, zero
/// points out of range. Its remedy is what makes an exportable checkpoint of the same model.
CtPlan plan_compressed_tensors(const io::QuantizedCheckpoint& checkpoint);

/// A linear layer as the family's checkpoints have it: those of the block that share a tensor, one below the other.
struct CtModule {
  std::string name;  ///< "model.layers.0.self_attn.qkv_proj"
  std::vector<LinearId> parts;
  std::int64_t rows;
  std::int64_t columns;
  bool bias;
};
std::vector<CtModule> ct_modules(const ModelSpec& spec, std::int64_t block);

/// Every tensor of the export, in the order in which it is written.
std::vector<io::TensorDeclaration> ct_layout(const ModelSpec& spec, const Recipe& recipe, const CtPlan& plan);

}  // namespace pq::exchange
