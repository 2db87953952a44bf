#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/text_files.h"
#include "io/safetensors.h"
#include "model/block_layout.h"

namespace pq::io {

/// What `model` means: a directory, a GGUF file, or an `org/name` in the local Hugging Face cache ($HF_HUB_CACHE,
/// $HUGGINGFACE_HUB_CACHE, $HF_HOME/hub, $XDG_CACHE_HOME/huggingface/hub, ~/.cache/huggingface/hub; the revision in
/// refs/main, else the newest snapshot), or `org/name@revision` there (a branch, a tag, or a commit, whole or its first
/// digits). Which snapshot was taken goes to stderr. Nothing is downloaded. Throws InputError that says where it looked
/// and how to get the model.
std::filesystem::path resolve_model(const std::string& model);

/// The texts beside the weights of a model that resolve_model found. Throws what opening a GGUF file throws, and
/// without a tokenizer.json what check_model_directory does.
TextFiles model_texts(const std::filesystem::path& path);

/// Whether config.json of a directory says that this program quantized it; no GGUF file was. Throws InputError without
/// a config.json, FormatError when it is not JSON.
bool is_quantized_checkpoint(const std::filesystem::path& path);

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

/// An unquantized checkpoint as Hugging Face has it, mapped: config.json and safetensors, or a GGUF file that is seen
/// as such. Opening reads headers only, and checks that every tensor of required_tensors is there with its shape.
/// Values are not looked at.
class HfCheckpoint {
 public:
  /// `model` as for resolve_model. Throws InputError (no such model, no safetensors in it), UnsupportedError
  /// (other architecture, already quantized), FormatError (missing or misshapen tensor, damaged file).
  /// `context`: the tokens that the model is to be used with, where its rotary embedding depends on them (LongRoPE);
  /// 0: what it was first trained with.
  static HfCheckpoint open(const std::string& model, std::int64_t context = 0);
  /// What else a directory holds whose linear layers another program quantized: no weight is asked for of those that
  /// `quantized` names ("model.layers.0.mlp.down_proj", as they are stored), and their tensors are left to the caller.
  static HfCheckpoint open_beside(const std::string& model, std::int64_t context,
                                  const std::function<bool(std::string_view module)>& quantized);

  /// The directory, or the GGUF file.
  const std::filesystem::path& path() const { return path_; }
  /// What else the directory holds: tokenizer, generation settings.
  const TextFiles& texts() const { return texts_; }
  /// "org/name" for a model of the Hugging Face cache, else the path's last part.
  const std::string& name() const { return name_; }
  const ModelSpec& spec() const { return spec_; }
  /// config.json as it stands (the part of the language model, where that has images too), of a GGUF file what it would
  /// be, with context_key where a context was asked for.
  const Json& config() const { return config_; }
  bool has(std::string_view name) const { return tensors_->has(name); }
  /// A tensor as it stands in the file, whatever its type. Throws FormatError, UnsupportedError.
  TensorView stored(std::string_view name) const { return tensors_->tensor(name); }
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
  const std::vector<std::string>& names() const { return tensors_->names(); }

 private:
  using ModulePredicate = std::function<bool(std::string_view)>;

  HfCheckpoint(std::filesystem::path path, TextFiles texts, std::shared_ptr<const TensorStore> gguf,
               std::int64_t context, const ModulePredicate& quantized);
  void check_tensors(const ModulePredicate& quantized) const;

  std::filesystem::path path_;
  std::string name_;
  TextFiles texts_;
  Json config_;
  ModelSpec spec_;
  std::shared_ptr<const TensorStore> tensors_;
  std::string_view embedding_name_ = tensor_names::embedding;  // where tied ones stand under the name of the other
};

}  // namespace pq::io
