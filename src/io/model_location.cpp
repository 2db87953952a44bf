#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/file_kind.h"
#include "base/files.h"
#include "base/log.h"
#include "base/mapped_file.h"
#include "io/gguf_checkpoint.h"
#include "io/gguf_file.h"
#include "io/hf_checkpoint.h"
#include "io/model_directory.h"

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

/// "org/name" or "org/name@revision".
struct HubName {
  std::string repository;
  std::string revision;  ///< empty: none was asked for

  std::string download() const {
    return fmt::format("hf download {}{}", repository, revision.empty() ? "" : " --revision " + revision);
  }
};

bool is_name(std::string_view text, std::string_view also) {
  return !text.empty() && text.front() != '.' && std::all_of(text.begin(), text.end(), [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-' || also.find(c) != std::string_view::npos;
  });
}

/// Of the characters that the hub allows.
std::optional<HubName> parse_hub_name(std::string_view model) {
  const auto slash = model.find('/');
  if (slash == std::string_view::npos || !is_name(model.substr(0, slash), "")) return std::nullopt;
  const auto at = std::min(model.find('@', slash), model.size());
  if (!is_name(model.substr(slash + 1, at - slash - 1), "")) return std::nullopt;
  HubName name{std::string(model.substr(0, at)), {}};
  if (at == model.size()) return name;
  name.revision = model.substr(at + 1);
  if (!is_name(name.revision, "/") || name.revision.find("..") != std::string::npos) return std::nullopt;
  return name;
}

/// The commit that a branch or tag points to; empty where the cache does not know it.
std::string commit_of(const fs::path& repository, const std::string& reference) {
  std::error_code code;
  const fs::path file = repository / "refs" / reference;
  if (!fs::is_regular_file(file, code)) return {};
  std::string commit = read_text_file(file);
  while (!commit.empty() && std::string_view(" \r\n\t").find(commit.back()) != std::string_view::npos)
    commit.pop_back();
  return is_name(commit, "") ? commit : std::string();
}

std::vector<fs::path> snapshots_of(const fs::path& repository) {
  std::vector<fs::path> found;
  std::error_code code;
  for (fs::directory_iterator entry(repository / "snapshots", code), end; !code && entry != end;
       entry.increment(code)) {
    if (entry->is_directory(code)) found.push_back(entry->path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

/// The snapshot of a branch, a tag, or a commit that is given whole or by its first digits.
std::optional<fs::path> find_revision(const fs::path& repository, const HubName& name) {
  const std::string commit = commit_of(repository, name.revision);
  std::vector<fs::path> fitting;
  for (const fs::path& snapshot : snapshots_of(repository)) {
    const std::string digits = snapshot.filename().string();
    if (digits == name.revision || digits == commit) return snapshot;
    constexpr std::size_t fewest_digits = 4;
    if (name.revision.size() >= fewest_digits && digits.starts_with(name.revision)) fitting.push_back(snapshot);
  }
  if (fitting.size() > 1) {
    throw InputError(fmt::format("{}@{}", name.repository, name.revision),
                     fmt::format("fits {} snapshots of the Hugging Face cache", fitting.size()),
                     "give more of the commit's digits");
  }
  return fitting.empty() ? std::nullopt : std::optional(fitting.front());
}

/// The snapshot that refs/main names, else the newest.
std::optional<fs::path> find_snapshot(const fs::path& repository, const HubName& name) {
  if (!name.revision.empty()) return find_revision(repository, name);
  const std::vector<fs::path> snapshots = snapshots_of(repository);
  if (snapshots.empty()) return std::nullopt;
  std::error_code code;
  const std::string main = commit_of(repository, "main");
  if (!main.empty() && fs::is_directory(repository / "snapshots" / main, code)) return repository / "snapshots" / main;
  const fs::path newest = *std::max_element(snapshots.begin(), snapshots.end(), [](const auto& a, const auto& b) {
    std::error_code ignored;
    return fs::last_write_time(a, ignored) < fs::last_write_time(b, ignored);
  });
  if (!main.empty()) {
    log_warning("{}: refs/main of the Hugging Face cache is {}, which is not there; the newest snapshot is taken",
                name.repository, main);
  }
  return newest;
}

/// Once for a model, however often it is looked up.
void say_snapshot(const std::string& model, const fs::path& snapshot) {
  static std::mutex mutex;
  static std::set<std::string> said;
  const std::lock_guard lock(mutex);
  if (said.insert(model).second) log_info("{}: snapshot {}", model, snapshot.string());
}

fs::path find_in_hub_cache(const std::string& model, const HubName& name) {
  const auto slash = name.repository.find('/');
  const std::string folder =
      fmt::format("models--{}--{}", name.repository.substr(0, slash), name.repository.substr(slash + 1));
  std::string looked;
  std::vector<std::string> others;
  for (const fs::path& cache : hub_caches()) {
    const fs::path repository = cache / folder;
    if (const auto snapshot = find_snapshot(repository, name)) {
      say_snapshot(model, *snapshot);
      return *snapshot;
    }
    if (const auto part = unfinished_download(repository / "blobs")) {
      throw InputError(model, fmt::format("its download is incomplete ({} is there)", part->string()),
                       fmt::format("finish it with: {}", name.download()));
    }
    for (const fs::path& snapshot : snapshots_of(repository)) others.push_back(snapshot.filename().string());
    looked += fmt::format("{}{}", looked.empty() ? "" : ", ", cache.string());
  }
  if (!others.empty()) {
    throw InputError(model,
                     fmt::format("the Hugging Face cache has other revisions of it only ({})", fmt::join(others, ", ")),
                     fmt::format("get it with: {}", name.download()));
  }
  throw InputError(
      model,
      fmt::format("is neither a directory nor in the Hugging Face cache (looked in {}); nothing is downloaded",
                  looked.empty() ? "no place, as HOME is not set" : looked),
      fmt::format("get it with: {}", name.download()));
}

[[noreturn]] void refuse_file(const fs::path& model) {
  std::error_code code;
  if (fs::is_regular_file(model, code)) {
    const MappedFile file(model);
    check_file_kind(model, file.bytes(), FileKind::gguf);
  }
  throw InputError(model.string(), "is neither a directory nor a GGUF file",
                   "name the directory that holds config.json");
}

}  // namespace

fs::path resolve_model(const std::string& model) {
  if (model.empty())
    throw InputError("", "the model's name is empty",
                     "name a directory, a GGUF file, or org/name of the Hugging Face cache");
  std::error_code code;
  if (fs::is_directory(model, code) || is_gguf_file(model)) return model;
  if (fs::exists(model, code)) refuse_file(model);
  if (fs::is_symlink(model, code) || model.ends_with(".gguf")) refuse_missing(model);
  const auto name = parse_hub_name(model);
  if (!name) {
    throw InputError(model, "there is no such directory or file",
                     "name a directory, a GGUF file, or org/name of the Hugging Face cache");
  }
  return find_in_hub_cache(model, *name);
}

TextFiles model_texts(const fs::path& path) {
  if (is_gguf_file(path)) return open_gguf(path).texts;
  TextFiles texts(path);
  if (!texts.has("tokenizer.json")) check_model_directory(path);
  return texts;
}

bool is_quantized_checkpoint(const fs::path& path) {
  if (is_gguf_file(path)) return false;
  if (!exists_or_dangles(path / "config.json")) check_model_directory(path);
  const Json config = read_json_file(path / "config.json");
  if (!config.is_object() || !config.contains("quantization_config")) return false;
  const Json& block = config["quantization_config"];
  return block.is_object() && block.contains("quant_method") && block["quant_method"] == "prefixquant";
}

}  // namespace pq::io
