#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "kernels/kernels.h"
#include "model/model_spec.h"
#include "model/recipe.h"
#include "runtime/model_options.h"

namespace pq::runtime {

struct ModelParts;

/// A model packed for the kernels of this machine. Immutable: any number of sessions and threads share one.
class Model {
 public:
  /// A quantized checkpoint, or an unquantized Hugging Face one (tied or not): a directory, or org/name of the local
  /// Hugging Face cache. Maps the files and packs the weights, one after the other. Throws what opening a checkpoint
  /// throws; FormatError naming the tensor for values that cannot be computed with; InputError for options that are not
  /// allowed, or a PQ_FORCE_ISA that this machine lacks.
  static std::shared_ptr<const Model> load(const std::string& model, const ModelOptions& options);
  /// A model of this shape with random weights, scales and prefix (`prefix_tokens` long), for measuring speed. Weights
  /// of 16 bits are bfloat16; a recipe with 16 bits everywhere gives the unquantized model, without rotations. The same
  /// arguments give the same model. Throws InputError.
  static std::shared_ptr<const Model> random(const ModelSpec& spec, const Recipe& recipe, std::int64_t prefix_tokens,
                                             const ModelOptions& options);

  explicit Model(std::unique_ptr<ModelParts> parts);
  ~Model();
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  const ModelSpec& spec() const;
  /// 16 bits everywhere for an unquantized model.
  const Recipe& recipe() const;
  const ModelOptions& options() const;
  /// Tokens of the prefix in front of every session; they do not count against its capacity.
  std::int64_t prefix_length() const;
  /// Where the model was loaded from; empty for a random one.
  const std::filesystem::path& path() const;
  const kernels::KernelTable& kernels() const;
  /// Bytes of weights, scales and head that generating one token reads (batch 1).
  std::uint64_t weight_bytes_per_token() const;
  /// Bytes of the KV cache that one token takes, all blocks together.
  std::uint64_t kv_bytes_per_token() const;

  const ModelParts& parts() const { return *parts_; }

 private:
  std::unique_ptr<ModelParts> parts_;
};

}  // namespace pq::runtime
