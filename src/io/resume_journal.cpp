#include "io/resume_journal.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <span>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/files.h"
#include "io/block_tensors.h"
#include "io/sealed_tensors.h"

namespace pq::io {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view tensor_start = "tensor.";  // so that no state tensor can be called like the optimizer
constexpr std::string_view optimizer_name = "optimizer";

/// What is in the file, through `read`; an error in its contents becomes one that says how to go on.
template <typename Read>
auto read_sealed(const fs::path& path, const Read& read) {
  try {
    const SealedTensors tensors(path);
    return read(tensors);
  } catch (const SystemError&) {
    throw;
  } catch (const Error& error) {
    throw FormatError(path.string(), fmt::format("the saved work cannot be used ({})", error.what()),
                      "remove this file and run the command again, or begin anew with --restart");
  }
}

Json notes_of(const SealedTensors& tensors) { return parse_json(tensors.metadata("notes"), "notes"); }

void flatten(const Json& json, const std::string& path, std::vector<std::pair<std::string, const Json*>>& leaves) {
  if (!json.is_object() || json.empty()) {
    leaves.emplace_back(path, &json);
    return;
  }
  for (const auto& [key, value] : json.items()) flatten(value, path.empty() ? key : path + "." + key, leaves);
}

std::string value_text(const Json& json) {
  constexpr std::size_t longest = 80;
  std::string text = json.is_string() && !json.get_ref<const std::string&>().empty()
                         ? json.get<std::string>()
                         : json.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() <= longest) return text;
  std::size_t cut = longest;
  while (cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xc0U) == 0x80U) --cut;  // not inside a character
  return text.substr(0, cut) + "...";
}

/// "recipe.finetune.epochs was 5 and is 10; ..."
std::string differences(const Json& before, const Json& now) {
  std::vector<std::pair<std::string, const Json*>> old_leaves;
  std::vector<std::pair<std::string, const Json*>> new_leaves;
  flatten(before, "", old_leaves);
  flatten(now, "", new_leaves);
  const auto find = [](const auto& leaves, const std::string& path) -> const Json* {
    for (const auto& [name, value] : leaves) {
      if (name == path) return value;
    }
    return nullptr;
  };
  std::vector<std::string> lines;
  for (const auto& [name, value] : new_leaves) {
    const Json* old_value = find(old_leaves, name);
    if (old_value == nullptr) {
      lines.push_back(fmt::format("{} was not there and is {}", name, value_text(*value)));
    } else if (*old_value != *value) {
      const std::string was = value_text(*old_value);
      const std::string is = value_text(*value);
      lines.push_back(was == is ? fmt::format("{} differs ({})", name, is)
                                : fmt::format("{} was {} and is {}", name, was, is));
    }
  }
  for (const auto& [name, value] : old_leaves) {
    if (find(new_leaves, name) == nullptr) {
      lines.push_back(fmt::format("{} was {} and is not there", name, value_text(*value)));
    }
  }
  constexpr std::size_t most = 5;
  const std::size_t hidden = lines.size() > most ? lines.size() - most : 0;
  lines.resize(lines.size() - hidden);
  return fmt::format("{}{}", fmt::join(lines, "; "), hidden > 0 ? fmt::format("; and {} more", hidden) : "");
}

}  // namespace

ResumeJournal::ResumeJournal(fs::path directory, const Json& fingerprint, ModelSpec spec, Recipe recipe,
                             const SiteTransforms& transforms)
    : directory_(std::move(directory)),
      fingerprint_(parse_json(fingerprint.dump(), "fingerprint")),
      spec_(std::move(spec)),
      recipe_(std::move(recipe)),
      transforms_(without_values(transforms)) {
  std::error_code code;
  while (finished_ < spec_.block_count && fs::exists(block_path(finished_), code)) ++finished_;
  // A process killed before its first save was complete has left no work, whatever its journal says.
  resumed_ = finished_ > 0 || fs::exists(state_path(), code);
  if (resumed_) read_journal();
}

fs::path ResumeJournal::journal_path() const { return directory_ / "journal.json"; }
fs::path ResumeJournal::state_path() const { return directory_ / "state.safetensors"; }
fs::path ResumeJournal::block_path(std::int64_t index) const {
  return directory_ / fmt::format("block-{:05}.safetensors", index);
}

void ResumeJournal::read_journal() {
  constexpr std::string_view anew = "begin anew with --restart";
  const std::string where = journal_path().string();
  Json journal;
  try {
    journal = read_json_file(journal_path());
  } catch (const SystemError&) {
    throw;
  } catch (const Error& error) {
    throw FormatError(where, fmt::format("cannot be used ({})", error.what()), anew);
  }
  const auto has = [&](const char* key) { return journal.is_object() && journal.contains(key); };
  if (!has("format_version") || !has("fingerprint")) throw FormatError(where, "is not that of a saved run", anew);
  if (journal["format_version"] != journal_format_version) {
    throw UnsupportedError(where,
                           fmt::format("the saved work has format version {}, this program reads version {}",
                                       value_text(journal["format_version"]), journal_format_version),
                           "finish it with the program's version that began it, or begin anew with --restart");
  }
  if (journal["fingerprint"] != fingerprint_) {
    throw InputError(
        directory_.string(),
        fmt::format("holds the unfinished work of another run: {}", differences(journal["fingerprint"], fingerprint_)),
        "run the command that began it, or begin anew with --restart");
  }
  begun_ = true;
}

void ResumeJournal::begin() {
  if (begun_) return;
  std::error_code code;
  fs::create_directories(directory_, code);
  if (code) {
    throw SystemError(directory_.string(), fmt::format("cannot make the directory: {}", code.message()),
                      "free some disk space or write elsewhere");
  }
  const Json journal{{"format_version", journal_format_version}, {"fingerprint", fingerprint_}};
  write_file_atomically(journal_path(), journal.dump(2) + "\n");
  begun_ = true;
}

void ResumeJournal::require_finished(std::int64_t index) const {
  if (index < 0 || index >= finished_) {
    throw std::logic_error(fmt::format("block {} is not among the {} finished ones", index, finished_));
  }
}

QuantizedBlock ResumeJournal::block(std::int64_t index) const {
  require_finished(index);
  return read_sealed(block_path(index), [&](const SealedTensors& tensors) {
    return read_block(
        spec_, recipe_, transforms_, index, BlockWeights::read,
        [&](std::string_view name) { return tensors.tensor(name); }, "");
  });
}

Json ResumeJournal::block_notes(std::int64_t index) const {
  require_finished(index);
  return read_sealed(block_path(index), notes_of);
}

void ResumeJournal::save_block(std::int64_t index, const QuantizedBlock& block, const Json& notes) {
  if (index < 0 || index > finished_ || index >= spec_.block_count) {
    throw std::logic_error(fmt::format("block {} cannot follow {} finished ones", index, finished_));
  }
  begin();
  std::vector<TensorBytes> tensors;
  visit_block(spec_, recipe_, index, block, [&](TensorDeclaration declaration, const auto& values) {
    tensors.push_back({std::move(declaration), std::as_bytes(std::span(values))});
  });
  write_sealed_tensors(block_path(index), tensors, {{"notes", notes.dump()}});
  finished_ = std::max(finished_, index + 1);
  // Should the process end before this, the state is of a phase that nobody asks for any more.
  std::error_code code;
  fs::remove(state_path(), code);
}

std::optional<TuningState> ResumeJournal::state(std::string_view phase) const {
  std::error_code code;
  if (!fs::exists(state_path(), code)) return std::nullopt;
  return read_sealed(state_path(), [&](const SealedTensors& file) -> std::optional<TuningState> {
    if (file.metadata("phase") != phase) return std::nullopt;
    TuningState state;
    state.notes = notes_of(file);
    for (const std::string& name : file.names()) {
      const TensorView view = file.tensor(name);
      if (name == optimizer_name) {
        state.optimizer = copy_values<std::byte>(view);
        continue;
      }
      if (view.dtype != DType::f32 || !name.starts_with(tensor_start)) {
        throw FormatError(view.file, fmt::format("tensor '{}' does not belong to a training state", name));
      }
      state.tensors.push_back({name.substr(tensor_start.size()), view.shape, copy_values<float>(view)});
    }
    return state;
  });
}

void ResumeJournal::save_state(std::string_view phase, const TuningState& state) {
  begin();
  std::vector<TensorBytes> tensors;
  for (const StateTensor& tensor : state.tensors) {
    tensors.push_back(
        {{std::string(tensor_start) + tensor.name, DType::f32, tensor.shape}, std::as_bytes(std::span(tensor.values))});
  }
  const auto size = static_cast<std::int64_t>(state.optimizer.size());
  tensors.push_back({{std::string(optimizer_name), DType::u8, {size}}, state.optimizer});
  write_sealed_tensors(state_path(), tensors, {{"phase", std::string(phase)}, {"notes", state.notes.dump()}});
}

}  // namespace pq::io
