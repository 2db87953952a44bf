#include "io/hf_checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <stdexcept>
#include <string>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "base/file_kind.h"
#include "base/log.h"
#include "io/gguf_checkpoint.h"
#include "io/gguf_file.h"
#include "io/hf_config.h"
#include "io/model_directory.h"
#include "io/text_model.h"

namespace pq::io {
namespace {

namespace fs = std::filesystem;

/// "org/name" for a model of the Hugging Face cache; any other directory -> its last component.
std::string model_name(const fs::path& directory) {
  std::error_code code;
  fs::path path = fs::absolute(directory, code).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  if (path.parent_path().filename() == "snapshots") {
    if (auto repository = hub_repository(path)) return *repository;
  }
  return path.filename().string();
}

/// The block that a tensor's name speaks of, or -1.
std::int64_t block_of(std::string_view name) {
  constexpr std::string_view start = "model.layers.";
  if (!name.starts_with(start)) return -1;
  std::int64_t block = -1;
  std::from_chars(name.data() + start.size(), name.data() + name.size(), block);
  return block;
}

}  // namespace

std::vector<TensorDeclaration> required_tensors(const ModelSpec& spec) {
  return required_tensors(spec, fused_linears(spec));
}

std::vector<TensorDeclaration> required_tensors(const ModelSpec& spec, std::span<const FusedLinears> fused) {
  std::vector<TensorDeclaration> tensors;
  const auto add = [&](std::string name, std::vector<std::int64_t> shape) {
    tensors.push_back({std::move(name), DType::f32, std::move(shape)});
  };
  add(std::string(tensor_names::embedding), {spec.vocab_size, spec.hidden_size});
  for (std::int64_t block = 0; block < spec.block_count; ++block) {
    for (const NormRow& norm : all_norms(spec)) add(tensor_names::norm(block, norm), {norm.size});
    for (const LinearId id : all_linears) {
      const LinearShape shape = linear_shape(spec, id);
      const StoredLinear stored = stored_linear(spec, id, fused);
      if (stored.first_row != 0) continue;  // rows of a tensor that another layer began
      const std::string name = tensor_names::block(block) + "." + std::string(stored.name);
      add(name + ".weight", {stored.rows, shape.in_features});
      if (shape.bias) add(name + ".bias", {stored.rows});
    }
  }
  add(std::string(tensor_names::final_norm), {spec.hidden_size});
  if (!spec.tied_embeddings) add(std::string(tensor_names::lm_head), {spec.vocab_size, spec.hidden_size});
  return tensors;
}

HfCheckpoint HfCheckpoint::open(const std::string& model, std::int64_t context) {
  const fs::path path = resolve_model(model);
  if (is_gguf_file(path)) {
    GgufCheckpoint gguf = open_gguf(path);
    return {path, std::move(gguf.texts), std::move(gguf.tensors), context, nullptr};
  }
  check_model_directory(path);
  return {path, TextFiles(path), nullptr, context, nullptr};
}

HfCheckpoint HfCheckpoint::open_beside(const std::string& model, std::int64_t context,
                                       const ModulePredicate& quantized) {
  const fs::path path = resolve_model(model);
  check_model_directory(path);
  return {path, TextFiles(path), nullptr, context, quantized};
}

HfCheckpoint::HfCheckpoint(fs::path path, TextFiles texts, std::shared_ptr<const TensorStore> gguf,
                           std::int64_t context, const ModulePredicate& quantized)
    : path_(std::move(path)),
      name_(model_name(path_)),
      texts_(std::move(texts)),
      config_(text_model_config(texts_.json("config.json"))) {
  constexpr std::int64_t longest_context = std::int64_t{1} << 31;
  if (context > longest_context) {
    throw InputError("--context", fmt::format("{} is more than any model has", context),
                     fmt::format("use at most {}", longest_context));
  }
  if (context > 0 && config_.is_object()) config_[std::string(context_key)] = context;
  if (quantized && config_.is_object()) config_.erase("quantization_config");
  spec_ = parse_config(config_, texts_.place("config.json"));
  constexpr std::string_view generation = "generation_config.json";
  if (texts_.has(generation)) add_generation_config(spec_, texts_.json(generation), texts_.place(generation));
  // GGUF has norms as they multiply.
  if (gguf != nullptr) spec_.norm_offset = false;
  tensors_ = gguf != nullptr ? std::move(gguf) : text_model_tensors(std::make_shared<ShardedTensors>(path_));
  if (spec_.tied_embeddings && !has(tensor_names::embedding) && has(tensor_names::lm_head)) {
    embedding_name_ = tensor_names::lm_head;
  }
  check_tensors(quantized);
  // As transformers does: a head that stands in the file and differs from the embedding is not tied, whatever
  // config.json says.
  if (spec_.tied_embeddings && has(tensor_names::lm_head) && has(tensor_names::embedding)) {
    const TensorView embedded = embedding();
    const TensorView head = tensor(tensor_names::lm_head, embedded.shape);
    if (embedded.dtype != head.dtype || !std::equal(embedded.bytes.begin(), embedded.bytes.end(), head.bytes.begin())) {
      spec_.tied_embeddings = false;
      log_warning("{}: lm_head.weight differs from the embedding, so they are not tied, although config.json says so",
                  tensors_->file());
    }
  }
}

void HfCheckpoint::check_tensors(const ModulePredicate& quantized) const {
  std::unordered_set<std::string> required;
  const auto of_quantized = [&](std::string_view name) {
    return quantized && quantized(name.substr(0, name.rfind('.')));
  };
  for (TensorDeclaration& declaration : required_tensors(spec_)) {
    if (declaration.name == tensor_names::embedding) declaration.name = embedding_name_;
    if (declaration.name.ends_with(".weight") && of_quantized(declaration.name)) continue;
    if (!has(declaration.name)) {
      const bool headless = declaration.name == tensor_names::lm_head;
      throw FormatError(
          tensors_->file(),
          fmt::format("there is no tensor '{}' (config.json asks for {}){}", declaration.name,
                      shape_text(declaration.shape),
                      headless ? ": this is a base model without head, and its embedding is not tied" : ""),
          headless ? "use the checkpoint that was saved with its head (for causal language modelling)"
                   : "the checkpoint is incomplete, or config.json is of another model");
    }
    tensor(declaration.name, declaration.shape);
    required.insert(declaration.name);
  }
  std::size_t ignored = 0;
  std::string example;
  for (const std::string& name : tensors_->names()) {
    if (block_of(name) >= spec_.block_count) {
      throw FormatError(
          tensors_->file(),
          fmt::format("holds tensor '{}', but config.json says num_hidden_layers = {}", name, spec_.block_count),
          "fetch the config.json that belongs to this checkpoint");
    }
    // Buffers that old versions of transformers saved, and the second name of a tied head.
    const bool expected = required.contains(name) || of_quantized(name) || name.ends_with(".rotary_emb.inv_freq") ||
                          name == tensor_names::lm_head;
    if (!expected && ++ignored == 1) example = name;
  }
  if (ignored > 0) {
    log_warning("{}: {} tensor{} not part of the {} architecture and ignored (for example {})", tensors_->file(),
                ignored, ignored == 1 ? " is" : "s are", spec_.family->model_type, example);
  }
}

TensorView HfCheckpoint::tensor(std::string_view name, std::span<const std::int64_t> expected_shape) const {
  TensorView view = tensors_->tensor(name);
  if (!is_floating(view.dtype)) {
    throw UnsupportedError(fmt::format("{}: tensor '{}'", view.file, name),
                           fmt::format("is {}, not a floating-point tensor", dtype_name(view.dtype)),
                           "use an unquantized checkpoint in F32, F16 or BF16");
  }
  expect_tensor(view, {std::string(name), view.dtype, {expected_shape.begin(), expected_shape.end()}});
  return view;
}

LinearView linear_view(const TensorLookup& tensor, const ModelSpec& spec, std::int64_t block, LinearId id,
                       std::span<const FusedLinears> fused) {
  const LinearShape shape = linear_shape(spec, id);
  const StoredLinear stored = stored_linear(spec, id, fused);
  const std::string name = tensor_names::block(block) + "." + std::string(stored.name);
  const auto rows = [&](const std::string& part, std::span<const std::int64_t> whole) {
    return tensor(part, whole).rows(stored.first_row, shape.out_features);
  };
  LinearView view{rows(name + ".weight", std::array{stored.rows, shape.in_features}), {}};
  if (shape.bias) view.bias = rows(name + ".bias", std::array{stored.rows});
  return view;
}

LinearView HfCheckpoint::linear(std::int64_t block, LinearId id) const {
  const auto lookup = [this](std::string_view name, std::span<const std::int64_t> shape) {
    return tensor(name, shape);
  };
  return linear_view(lookup, spec_, block, id, fused_linears(spec_));
}

TensorView HfCheckpoint::norm(std::int64_t block, NormId id) const {
  for (const NormRow& norm : all_norms(spec_)) {
    if (norm.id == id) return tensor(tensor_names::norm(block, norm), std::array{norm.size});
  }
  throw std::logic_error("a block of this model has no such norm");
}

TensorView HfCheckpoint::embedding() const {
  return tensor(embedding_name_, std::array{spec_.vocab_size, spec_.hidden_size});
}

TensorView HfCheckpoint::final_norm() const { return tensor(tensor_names::final_norm, std::array{spec_.hidden_size}); }

TensorView HfCheckpoint::lm_head() const {
  if (spec_.tied_embeddings) return embedding();
  return tensor(tensor_names::lm_head, std::array{spec_.vocab_size, spec_.hidden_size});
}

}  // namespace pq::io
