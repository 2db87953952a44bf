#include "text/documents.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>
#include <set>

#include "base/error.h"
#include "base/file_kind.h"
#include "base/files.h"
#include "base/json.h"
#include "base/log.h"
#include "text/unicode.h"

namespace pq {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view blanks = " \t\r\n";
constexpr std::string_view wanted = "give .txt, or .jsonl with a `text` field on each line";

/// ".jsonl" of "Texts.JSONL.gz".
std::string extension_of(fs::path path) {
  const auto lower = [](std::string text) {
    std::transform(text.begin(), text.end(), text.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return text;
  };
  if (lower(path.extension().string()) == ".gz") path.replace_extension();
  return lower(path.extension().string());
}

bool is_one_of(std::string_view extension, std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), extension) != names.end();
}
bool is_json_lines(std::string_view extension) { return is_one_of(extension, {".jsonl", ".ndjson"}); }
bool is_json(std::string_view extension) { return is_json_lines(extension) || extension == ".json"; }
bool is_binary(std::string_view extension) {
  return is_one_of(extension, {".parquet", ".arrow", ".feather", ".pdf", ".docx", ".xlsx", ".bz2", ".xz", ".zst",
                               ".lz4", ".zip", ".7z", ".tar", ".safetensors", ".gguf"});
}
bool is_plain_text(std::string_view extension) { return is_one_of(extension, {".txt", ".text", ".md"}); }

std::string_view first_line(std::string_view text) {
  const auto begin = text.find_first_not_of(blanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find('\n', begin) - begin);
}

std::optional<Json> as_json(std::string_view text, std::string_view where) {
  try {
    return parse_json(text, where);
  } catch (const FormatError&) {
    return std::nullopt;
  }
}

class Documents {
 public:
  explicit Documents(fs::path path) : path_(std::move(path)), where_(path_.string()) {}

  std::vector<std::string> read() {
    const std::string extension = extension_of(path_);
    if (is_one_of(extension, {".csv", ".tsv"})) throw InputError(where_, "is a table, not a text", wanted);
    if (is_one_of(extension, {".html", ".htm", ".xml"})) throw InputError(where_, "is markup, not a text", wanted);
    const std::string text = read_text_file(path_);  // names a format that it recognises
    if (is_binary(extension)) throw InputError(where_, "is no text, by its name", wanted);
    const bool json = begins_as_json(text);
    if (is_plain_text(extension) && json) {
      log_warning("{}: looks like JSON and is taken as plain text, as its name says", where_);
    }
    if (is_plain_text(extension) || (!json && !is_json(extension))) {
      require_utf8(text, where_);
      return {text};
    }
    if (text.find_first_not_of(blanks) == std::string::npos) return {};
    const bool lines = is_json_lines(extension) || as_json(first_line(text), where_);
    if (!lines || !add_lines(text, is_json_lines(extension))) add_whole(text);
    return std::move(documents_);
  }

 private:
  /// False where a line is not JSON of its own, so that it may be a part of one that goes over several.
  bool add_lines(std::string_view text, bool must_be) {
    std::size_t line = 0;
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = std::min(text.find('\n', begin), text.size());
      const std::string_view row = text.substr(begin, end - begin);
      begin = end + 1;
      ++line;
      if (row.find_first_not_of(blanks) == std::string_view::npos) continue;
      const std::string place = fmt::format("{}, line {}", where_, line);
      const bool alone = text.find_first_not_of(blanks, std::min(begin, text.size())) == std::string_view::npos;
      if (!must_be && line == 1 && alone) return false;  // one value: an array, or an object of lists
      require_utf8(row, place);
      const Json json = parse_json(row, place);
      if (!json.is_object() || !json.contains("text") || !json["text"].is_string()) {
        throw FormatError(place, "has no string field 'text'",
                          "a .jsonl calibration file holds one object with `text` on each line");
      }
      documents_.push_back(json["text"].get<std::string>());
    }
    return true;
  }

  void add_whole(std::string_view text) {
    require_utf8(text, where_);
    const Json json = parse_json(text, where_);
    if (add_value(json)) return;
    throw FormatError(where_, "is JSON without the strings 'text' that would be its texts", wanted);
  }

  /// A string, a list, or an object with `text`.
  bool add_value(const Json& json) {
    const auto add = [&](const Json& value) {
      if (value.is_object() && value.contains("text") && value["text"].is_string()) {
        documents_.push_back(value["text"].get<std::string>());
      } else if (value.is_string()) {
        documents_.push_back(value.get<std::string>());
      } else {
        return false;
      }
      return true;
    };
    if (json.is_array()) return std::all_of(json.begin(), json.end(), add);
    if (json.is_object() && json.contains("text") && json["text"].is_array()) return add_value(json["text"]);
    return add(json);
  }

  fs::path path_;
  std::string where_;
  std::vector<std::string> documents_;
};

}  // namespace

void require_utf8(std::string_view text, std::string_view where) {
  const std::size_t at = find_invalid_utf8(text);
  if (at == std::string_view::npos) return;
  const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n');
  const auto start = text.rfind('\n', at == 0 ? 0 : at - 1);
  const std::size_t in_line = line == 1 ? at : at - start - 1;
  throw InputError(line == 1 ? std::string(where) : fmt::format("{}, line {}", where, line),
                   fmt::format("byte {} is not valid UTF-8", in_line), "convert the text to UTF-8");
}

bool begins_as_json(std::string_view text) {
  constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";
  if (text.starts_with(byte_order_mark)) text.remove_prefix(byte_order_mark.size());
  const std::string_view line = first_line(text);
  if (line.empty() || (line.front() != '{' && line.front() != '[')) return false;
  const auto next = line.find_first_not_of(blanks, 1);
  const bool may_hold_texts = next == std::string_view::npos || line[next] == '"' || line[next] == '{';
  return may_hold_texts && (as_json(line, "") || as_json(text, ""));
}

std::vector<fs::path> document_files(const fs::path& path) {
  std::error_code code;
  if (!fs::is_directory(path, code)) return {path};
  std::vector<fs::path> files;
  std::set<std::string> others;
  for (fs::directory_iterator entry(path, code), end; !code && entry != end; entry.increment(code)) {
    const fs::path& file = entry->path();
    if (file.filename().string().starts_with(".")) continue;
    const std::string extension = extension_of(file);
    if (is_json(extension) || extension == ".txt") {
      if (!fs::exists(file)) refuse_missing(file);
      if (entry->is_regular_file()) files.push_back(file);
    } else if (!extension.empty() && entry->is_regular_file()) {
      others.insert(extension);
    }
  }
  if (code) throw InputError(path.string(), fmt::format("cannot be read: {}", code.message()), "check its permissions");
  if (files.empty()) {
    throw InputError(path.string(),
                     fmt::format("holds no .txt or .jsonl file{}",
                                 others.empty() ? "" : fmt::format(" (but {})", fmt::join(others, ", "))),
                     "give a file, or --calibration self");
  }
  if (!others.empty()) {
    log_info("{}: files of other kinds are left out ({})", path.string(), fmt::join(others, ", "));
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::vector<std::string> read_documents(const fs::path& path) {
  std::vector<std::string> documents;
  for (const fs::path& file : document_files(path)) {
    for (std::string& document : Documents(file).read()) documents.push_back(std::move(document));
  }
  const bool empty = std::all_of(documents.begin(), documents.end(), [](const std::string& document) {
    return document.find_first_not_of(blanks) == std::string::npos;
  });
  if (empty) throw InputError(path.string(), "the calibration text is empty", "give a text, or --calibration self");
  return documents;
}

}  // namespace pq
