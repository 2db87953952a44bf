#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/files.h"
#include "io/gguf_checkpoint.h"
#include "io/gguf_file.h"
#include "io/hf_checkpoint.h"

namespace pq::io {
namespace {

namespace fs = std::filesystem;

std::optional<fs::path> environment_path(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nothing here sets the environment
  if (value == nullptr || *value == '\0') return std::nullopt;
  return fs::path(value);
}

/// Where the huggingface_hub library keeps models, first the most specific setting.
std::vector<fs::path> hub_caches() {
  std::vector<fs::path> caches;
  const auto add = [&](const std::optional<fs::path>& path, std::string_view below) {
    if (!path) return;
    const fs::path cache = *path / below;
    if (std::find(caches.begin(), caches.end(), cache) == caches.end()) caches.push_back(cache);
  };
  add(environment_path("HF_HUB_CACHE"), "");
  add(environment_path("HUGGINGFACE_HUB_CACHE"), "");
  add(environment_path("HF_HOME"), "hub");
  add(environment_path("XDG_CACHE_HOME"), "huggingface/hub");
  add(environment_path("HOME"), ".cache/huggingface/hub");
  return caches;
}

/// "org/name", of the characters that the hub allows.
bool is_repository_name(std::string_view model) {
  const auto slash = model.find('/');
  if (slash == std::string_view::npos || slash == 0 || slash + 1 == model.size() || model.front() == '.') return false;
  return std::count(model.begin(), model.end(), '/') == 1 && model[slash + 1] != '.' &&
         std::all_of(model.begin(), model.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
                  c == '-' || c == '/';
         });
}

/// The snapshot that refs/main names, else the newest.
std::optional<fs::path> find_snapshot(const fs::path& repository) {
  std::error_code code;
  const fs::path snapshots = repository / "snapshots";
  const fs::path reference = repository / "refs" / "main";
  if (fs::is_regular_file(reference, code)) {
    std::string revision = read_text_file(reference);
    while (!revision.empty() && std::string_view(" \r\n\t").find(revision.back()) != std::string_view::npos)
      revision.pop_back();
    const bool plain = !revision.empty() && revision.find('/') == std::string::npos && revision.front() != '.';
    if (plain && fs::is_directory(snapshots / revision, code)) return snapshots / revision;
  }
  std::optional<fs::path> newest;
  fs::file_time_type newest_time;
  for (const auto& entry : fs::directory_iterator(snapshots, code)) {
    if (!entry.is_directory(code)) continue;
    const fs::file_time_type time = entry.last_write_time(code);
    if (!newest || time > newest_time || (time == newest_time && entry.path() > *newest)) {
      newest = entry.path();
      newest_time = time;
    }
  }
  return newest;
}

}  // namespace

fs::path resolve_model(const std::string& model) {
  if (model.empty())
    throw InputError("", "the model's name is empty",
                     "name a directory, a GGUF file, or org/name of the Hugging Face cache");
  std::error_code code;
  if (fs::is_directory(model, code) || is_gguf_file(model)) return model;
  if (fs::exists(model, code)) {
    throw InputError(model, "is neither a directory nor a GGUF file", "name the directory that holds config.json");
  }
  if (!is_repository_name(model) || fs::path(model).extension() == ".gguf") {
    throw InputError(model, "there is no such directory or file",
                     "name a directory, a GGUF file, or org/name of the Hugging Face cache");
  }
  const auto slash = model.find('/');
  const std::string repository = fmt::format("models--{}--{}", model.substr(0, slash), model.substr(slash + 1));
  std::string looked;
  for (const fs::path& cache : hub_caches()) {
    if (const auto snapshot = find_snapshot(cache / repository)) return *snapshot;
    looked += fmt::format("{}{}", looked.empty() ? "" : ", ", cache.string());
  }
  throw InputError(
      model,
      fmt::format("is neither a directory nor in the Hugging Face cache (looked in {}); nothing is downloaded",
                  looked.empty() ? "no place, as HOME is not set" : looked),
      fmt::format("get it with: huggingface-cli download {}", model));
}

TextFiles model_texts(const fs::path& path) { return is_gguf_file(path) ? open_gguf(path).texts : TextFiles(path); }

bool is_quantized_checkpoint(const fs::path& path) {
  if (is_gguf_file(path)) return false;
  const Json config = read_json_file(path / "config.json");
  if (!config.is_object() || !config.contains("quantization_config")) return false;
  const Json& block = config["quantization_config"];
  return block.is_object() && block.contains("quant_method") && block["quant_method"] == "prefixquant";
}

}  // namespace pq::io
