#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "io/safetensors.h"
#include "model/block_layout.h"

namespace pq::io {

/// The directory that `model` means: a directory, or an `org/name` in the local Hugging Face cache ($HF_HUB_CACHE,
/// $HUGGINGFACE_HUB_CACHE, $HF_HOME/hub, $XDG_CACHE_HOME/huggingface/hub, ~/.cache/huggingface/hub; the revision in
/// refs/main, else the newest snapshot). Nothing is downloaded. Throws InputError that says where it looked and how to
/// get the model.
std::filesystem::path resolve_model_directory(const std::string& model);

/// Whether config.json of `directory` says that this program quantized it. Throws InputError without a config.json,
/// FormatError when it is not JSON.
bool is_quantized_checkpoint(const std::filesystem::path& directory);

/// A linear layer as the file has it: a whole tensor, or the rows of one that several layers share.
struct LinearView {
  TensorView weight;               ///< [out, in]
  std::optional<TensorView> bias;  ///< [out]
};

/// The tensors that a checkpoint of this architecture must hold, in the order of computation. Their element type is any
/// floating one; the declarations say F32.
std::vector<TensorDeclaration> required_tensors(const ModelSpec& spec);
/// The same where `fused` lists the layers that share a tensor.
std::vector<TensorDeclaration> required_tensors(const ModelSpec& spec, std::span<const FusedLinears> fused);

/// Gives the tensor of a name, which must have this shape.
using TensorLookup = std::function<TensorView(std::string_view name, std::span<const std::int64_t> shape)>;
/// Linear layer `id` of a block, out of a checkpoint of required_tensors(spec, fused).
LinearView linear_view(const TensorLookup& tensor, const ModelSpec& spec, std::int64_t block, LinearId id,
                       std::span<const FusedLinears> fused);

/// An unquantized Hugging Face checkpoint, mapped: config.json and safetensors. Opening reads headers only, and checks
/// that every tensor of required_tensors is there with its shape. Values are not looked at.
class HfCheckpoint {
 public:
  /// `model` as for resolve_model_directory. Throws InputError (no such model, no safetensors in it), UnsupportedError
  /// (other architecture, already quantized), FormatError (missing or misshapen tensor, damaged file).
  static HfCheckpoint open(const std::string& model);

  const std::filesystem::path& directory() const { return directory_; }
  /// "org/name" for a model of the Hugging Face cache, else the directory's own name without its parents.
  const std::string& name() const { return name_; }
  const ModelSpec& spec() const { return spec_; }
  /// config.json as it stands.
  const Json& config() const { return config_; }
  bool has(std::string_view name) const { return tensors_.has(name); }
  /// Throws FormatError when the tensor is missing or has another shape, UnsupportedError when it is not a floating
  /// one.
  TensorView tensor(std::string_view name, std::span<const std::int64_t> expected_shape) const;
  /// The parts of the architecture, wherever the file keeps them. Values are not looked at.
  LinearView linear(std::int64_t block, LinearId id) const;
  TensorView norm(std::int64_t block, NormId id) const;  ///< [size]
  TensorView embedding() const;                          ///< [vocab, hidden]
  TensorView final_norm() const;                         ///< [hidden]
  TensorView lm_head() const;                            ///< [vocab, hidden]: the embedding where they are tied
  /// Names of all tensors, also those that the architecture does not use.
  const std::vector<std::string>& names() const { return tensors_.names(); }

 private:
  HfCheckpoint(std::filesystem::path directory, Json config, ModelSpec spec);
  void check_tensors() const;

  std::filesystem::path directory_;
  std::string name_;
  Json config_;
  ModelSpec spec_;
  ShardedTensors tensors_;
};

}  // namespace pq::io
