#include "io/quantized_checkpoint.h"

#include <fmt/format.h>

#include <stdexcept>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "io/block_tensors.h"
#include "io/gguf_file.h"
#include "io/hf_config.h"

namespace pq::io {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view again = "quantize the model again";

Json without_quantization(Json config) {
  config.erase("quantization_config");
  return config;
}

}  // namespace

QuantizedCheckpoint QuantizedCheckpoint::open(const std::string& model) {
  const fs::path directory = resolve_model(model);
  if (is_gguf_file(directory)) {
    throw InputError(directory.string(), "is a GGUF file, not a checkpoint that this program quantized",
                     "quantize it first with pq quantize");
  }
  const fs::path config_path = directory / "config.json";
  Json config = read_json_file(config_path);
  const Json* block =
      config.is_object() && config.contains("quantization_config") ? &config["quantization_config"] : nullptr;
  if (block == nullptr || !block->is_object() || !block->contains("quant_method") ||
      (*block)["quant_method"] != "prefixquant") {
    throw InputError(directory.string(), "is not a checkpoint that this program quantized",
                     "run: pq quantize MODEL -o OUT");
  }
  const Json* version = block->contains("format_version") ? &(*block)["format_version"] : nullptr;
  if (version == nullptr || !version->is_number_integer()) {
    throw FormatError(config_path.string(), "quantization_config has no integer format_version", again);
  }
  if (*version < oldest_checkpoint_format_version || *version > checkpoint_format_version) {
    throw UnsupportedError(config_path.string(),
                           fmt::format("the checkpoint has format version {}, this program reads versions {} to {}",
                                       version->dump(), oldest_checkpoint_format_version, checkpoint_format_version),
                           "use the program's version that wrote it, or quantize the model again");
  }
  ModelSpec spec = parse_config(without_quantization(config), config_path.string());
  if (spec.tied_embeddings) {
    throw FormatError(config_path.string(), "field 'tie_word_embeddings' is true, but quantized checkpoints are untied",
                      again);
  }
  const fs::path generation_path = directory / "generation_config.json";
  std::error_code code;
  if (fs::exists(generation_path, code)) {
    add_generation_config(spec, read_json_file(generation_path), generation_path.string());
  }
  return {directory, std::move(config), std::move(spec)};
}

QuantizedCheckpoint::QuantizedCheckpoint(fs::path directory, Json config, ModelSpec spec)
    : directory_(std::move(directory)),
      where_((directory_ / "config.json").string()),
      config_(std::move(config)),
      spec_(std::move(spec)),
      tensors_(directory_) {
  read_quantization_config();
  check_layout();
  load_prefix();
}

void QuantizedCheckpoint::read_quantization_config() {
  const Json& block = config_.at("quantization_config");
  const auto need = [&](const char* key, bool right_type) {
    if (!right_type)
      throw FormatError(where_, fmt::format("quantization_config field '{}' is not an object", key), again);
    return &block.at(key);
  };
  const auto is_object = [&](const char* key) { return block.contains(key) && block[key].is_object(); };
  header_.recipe = recipe_from_json(*need("recipe", is_object("recipe")), where_ + ": recipe");
  try {
    validate_recipe(header_.recipe, spec_);
  } catch (const InputError& error) {
    throw FormatError(where_, error.what());
  }
  need("provenance", is_object("provenance"));
  const bool first_version = block.at("format_version") == 1;
  if (first_version) {
    header_.transforms = online_rotations(spec_, header_.recipe.rotate);
  } else {
    header_.transforms = site_transforms_from_json(*need("site_transforms", is_object("site_transforms")), spec_,
                                                   where_ + ": site_transforms");
  }
  need("prefix", is_object("prefix"));
  read_prefix_config(!first_version);
}

void QuantizedCheckpoint::read_prefix_config(bool own_length) {
  const Json& prefix = config_.at("quantization_config").at("prefix");
  const auto need = [&](const char* key, bool right_type, std::string_view kind) {
    if (!right_type)
      throw FormatError(where_, fmt::format("quantization_config field '{}' is not {}", key, kind), again);
    return &prefix.at(key);
  };
  const Json& ids = *need("token_ids", prefix.contains("token_ids") && prefix["token_ids"].is_array(), "a list");
  const Json& text = *need("text", prefix.contains("text") && prefix["text"].is_string(), "a string");
  header_.prefix_text = text.get<std::string>();
  for (const Json& id : ids) {
    const bool known = id.is_number_integer() && id >= 0 && id < spec_.vocab_size;
    if (!known) {
      throw FormatError(
          where_, fmt::format("prefix token {} is not a token of the vocabulary of {}", id.dump(), spec_.vocab_size),
          again);
    }
    prefix_.token_ids.push_back(id.get<std::int32_t>());
  }
  prefix_.length = static_cast<std::int64_t>(prefix_.token_ids.size());
  if (own_length) {
    constexpr std::int64_t longest = 65536;
    const bool is_integer = prefix.contains("length") && prefix["length"].is_number_integer();
    const Json& length = *need("length", is_integer && prefix["length"] >= 0 && prefix["length"] <= longest,
                               fmt::format("an integer of 0 to {}", longest));
    if (!prefix_.token_ids.empty() && length != prefix_.length) {
      throw FormatError(where_,
                        fmt::format("prefix.length is {}, but there are {} prefix.token_ids", length.dump(),
                                    prefix_.token_ids.size()),
                        again);
    }
    prefix_.length = length.get<std::int64_t>();
  }
  header_.prefix_length = prefix_.length;
  header_.prefix_token_ids = prefix_.token_ids;
}

void QuantizedCheckpoint::check_layout() const {
  const auto layout = checkpoint_layout(spec_, header_);
  std::unordered_set<std::string> expected;
  for (const TensorDeclaration& declaration : layout) {
    if (!tensors_.has(declaration.name)) {
      throw FormatError(tensors_.file(),
                        fmt::format("there is no tensor '{}' (expected {} {})", declaration.name,
                                    dtype_name(declaration.dtype), shape_text(declaration.shape)),
                        "the checkpoint is incomplete; copy it again, or quantize the model again");
    }
    expect_tensor(tensors_.tensor(declaration.name), declaration);
    expected.insert(declaration.name);
  }
  for (const std::string& name : tensors_.names()) {
    if (expected.contains(name)) continue;
    throw FormatError(tensors_.file(), fmt::format("holds tensor '{}', which its recipe does not have", name),
                      "the file does not belong to its config.json; copy both again");
  }
}

void QuantizedCheckpoint::load_prefix() {
  if (prefix_.empty()) return;
  if (!prefix_.token_ids.empty()) {
    const TensorView ids = tensors_.tensor(prefix_names::token_ids);
    if (copy_values<std::int32_t>(ids) != prefix_.token_ids) {
      throw FormatError(fmt::format("{}: tensor '{}'", ids.file, ids.name), "differs from the prefix in config.json",
                        again);
    }
  }
  for (std::int64_t block = 0; block < spec_.block_count; ++block) {
    Prefix::BlockKv kv;
    const TensorView key = tensors_.tensor(prefix_names::key(block));
    const TensorView value = tensors_.tensor(prefix_names::value(block));
    kv.key = copy_values<std::uint16_t>(key);
    kv.value = copy_values<std::uint16_t>(value);
    check_halves(key, kv.key, again);
    check_halves(value, kv.value, again);
    prefix_.blocks.push_back(std::move(kv));
  }
}

QuantizedBlock QuantizedCheckpoint::block(std::int64_t index) const { return copy_block(index, BlockWeights::read); }
QuantizedBlock QuantizedCheckpoint::block_without_weights(std::int64_t index) const {
  return copy_block(index, BlockWeights::leave);
}

QuantizedBlock QuantizedCheckpoint::copy_block(std::int64_t index, BlockWeights weights) const {
  if (index < 0 || index >= spec_.block_count) {
    throw std::logic_error(fmt::format("there is no block {} of {}", index, spec_.block_count));
  }
  return read_block(
      spec_, header_.recipe, header_.transforms, index, weights,
      [&](std::string_view name) { return tensors_.tensor(name); }, again);
}

std::vector<float> QuantizedCheckpoint::final_norm() const {
  const TensorView view = tensors_.tensor(tensor_names::final_norm);
  auto values = copy_values<float>(view);
  check_floats(view, values, again);
  return values;
}

std::vector<TensorSummary> QuantizedCheckpoint::tensors() const {
  std::vector<TensorSummary> summaries;
  for (const std::string& name : tensors_.names()) {
    const TensorView view = tensors_.tensor(name);
    summaries.push_back({name, view.dtype, view.shape, view.bytes.size(), view.file});
  }
  return summaries;
}

}  // namespace pq::io
