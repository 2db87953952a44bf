#include "io/model_directory.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/error.h"
#include "base/file_kind.h"
#include "base/json.h"

namespace pq::io {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view get_safetensors = "get the model's Hugging Face version, in safetensors";

/// Weights that a directory without safetensors of the usual name may hold; the first row that fits is said.
struct OtherWeights {
  std::string_view start;
  std::string_view end;
  std::string_view what;
  std::string_view remedy;  ///< empty: how to convert with transformers
};
constexpr std::array other_weights{
    OtherWeights{"pytorch_model", ".bin", "weights in PyTorch pickle format", ""},
    OtherWeights{"pytorch_model", ".bin.index.json", "weights in PyTorch pickle format", ""},
    OtherWeights{"", ".pth", "weights in PyTorch pickle format", get_safetensors},
    OtherWeights{"", ".pt", "weights in PyTorch pickle format", get_safetensors},
    OtherWeights{"", ".ckpt", "weights in PyTorch pickle format", get_safetensors},
    OtherWeights{"tf_model", ".h5", "weights of TensorFlow", ""},
    OtherWeights{"flax_model", ".msgpack", "weights of Flax", ""},
    OtherWeights{"", ".onnx", "an ONNX model", get_safetensors},
    OtherWeights{"", ".npz", "weights of MLX or NumPy", get_safetensors},
    OtherWeights{"", ".engine", "a TensorRT engine", get_safetensors},
    OtherWeights{"consolidated", ".safetensors", "weights under its maker's own names",
                 "get the model's Hugging Face version, with model.safetensors"},
    OtherWeights{"", ".safetensors", "safetensors under another name",
                 "if these are the whole model, call the file model.safetensors"},
    OtherWeights{"", ".bin", "weights in a format that is not read", get_safetensors},
};

std::vector<std::string> names_in(const fs::path& directory) {
  std::error_code code;
  std::vector<std::string> names;
  for (fs::directory_iterator entry(directory, code), end; !code && entry != end; entry.increment(code)) {
    names.push_back(entry->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

bool has(const std::vector<std::string>& names, std::string_view name) {
  return std::binary_search(names.begin(), names.end(), name);
}

struct ShardName {
  std::int64_t number;
  std::int64_t count;
};
std::string shard_name(std::int64_t number, std::int64_t count) {
  return fmt::format("model-{:05}-of-{:05}.safetensors", number, count);
}
std::optional<ShardName> parse_shard_name(std::string_view name) {
  if (name.size() != shard_name(1, 1).size() || !name.starts_with("model-")) return std::nullopt;
  ShardName shard{};
  constexpr std::size_t digits = 5;
  constexpr std::size_t first = 6;
  constexpr std::size_t second = 15;
  std::from_chars(name.data() + first, name.data() + first + digits, shard.number);
  std::from_chars(name.data() + second, name.data() + second + digits, shard.count);
  if (shard.number < 1 || shard.number > shard.count || name != shard_name(shard.number, shard.count))
    return std::nullopt;
  return shard;
}

/// What an adapter was made for, where it says so.
std::string base_of_adapter(const fs::path& directory) {
  try {
    const Json config = read_json_file(directory / "adapter_config.json");
    const Json& base = config.at("base_model_name_or_path");
    return fmt::format(" for {}", base.get<std::string>());
  } catch (const std::exception&) {
    return {};
  }
}

}  // namespace

std::vector<std::string> shards_without_index(const fs::path& directory) {
  std::int64_t count = 0;
  const std::vector<std::string> names = names_in(directory);
  for (const std::string& name : names) {
    if (const auto shard = parse_shard_name(name)) count = std::max(count, shard->count);
  }
  std::vector<std::string> shards;
  std::vector<std::string> missing;
  for (std::int64_t number = 1; number <= count; ++number) {
    std::string name = shard_name(number, count);
    (has(names, name) ? shards : missing).push_back(std::move(name));
  }
  if (missing.empty()) return shards;
  throw InputError(
      directory.string(),
      fmt::format("holds {} of {} shards and no model.safetensors.index.json; the first that is missing is {}",
                  shards.size(), count, missing.front()),
      how_to_download(directory));
}

void check_model_directory(const fs::path& directory) {
  const std::vector<std::string> names = names_in(directory);
  if (has(names, "model.safetensors") || has(names, "model.safetensors.index.json") ||
      !shards_without_index(directory).empty()) {
    if (has(names, "config.json")) return;
    throw InputError((directory / "config.json").string(), "is missing beside the weights", how_to_download(directory));
  }
  if (const auto part = unfinished_download(directory)) {
    throw InputError(directory.string(),
                     fmt::format("the model's download is incomplete ({} is there)", part->filename().string()),
                     how_to_download(directory));
  }
  for (const std::string& name : names) {
    if (name != "adapter_config.json" && !name.starts_with("adapter_model.")) continue;
    throw UnsupportedError(directory.string(),
                           fmt::format("holds an adapter{}, not a whole model ({})", base_of_adapter(directory), name),
                           "merge it into its model first (merge_and_unload of Python's peft), and save that");
  }
  for (const std::string& name : names) {
    if (!name.ends_with(".gguf")) continue;
    throw UnsupportedError(directory.string(),
                           fmt::format("holds no model.safetensors, but weights in GGUF format ({})", name),
                           fmt::format("name the file itself: {}", (directory / name).string()));
  }
  for (const OtherWeights& row : other_weights) {
    for (const std::string& name : names) {
      if (!name.starts_with(row.start) || !name.ends_with(row.end)) continue;
      throw UnsupportedError(
          directory.string(), fmt::format("holds no model.safetensors, but {} ({})", row.what, name),
          row.remedy.empty()
              ? fmt::format("convert it: python -c \"from transformers import AutoModelForCausalLM as M; "
                            "M.from_pretrained('{}').save_pretrained('OUT')\"",
                            directory.string())
              : std::string(row.remedy));
    }
  }
  if (!has(names, "config.json")) {
    throw InputError(directory.string(),
                     names.empty() ? "is empty" : "holds no model: there is neither config.json nor model.safetensors",
                     how_to_download(directory));
  }
  throw InputError(directory.string(), "holds neither model.safetensors nor model.safetensors.index.json",
                   how_to_download(directory));
}

}  // namespace pq::io
