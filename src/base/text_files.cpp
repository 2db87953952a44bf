#include "base/text_files.h"

#include <fmt/format.h>

#include <utility>

#include "base/error.h"
#include "base/file_kind.h"
#include "base/files.h"

namespace pq {

TextFiles::TextFiles(std::filesystem::path directory) : path_(std::move(directory)), in_directory_(true) {}
TextFiles::TextFiles(std::filesystem::path file, Texts texts)
    : path_(std::move(file)), in_directory_(false), texts_(std::move(texts)) {}

bool TextFiles::has(std::string_view name) const {
  return in_directory_ ? exists_or_dangles(path_ / name) : texts_.contains(name);
}

std::string TextFiles::read(std::string_view name) const {
  if (in_directory_) {
    std::string text = read_text_file(path_ / name);
    if (name.ends_with(".json")) check_file_kind(path_ / name, std::as_bytes(std::span(text)), FileKind::json);
    return text;
  }
  const auto found = texts_.find(name);
  if (found == texts_.end()) throw InputError(place(name), "no such file", "name the directory of a whole model");
  return found->second();
}

Json TextFiles::json(std::string_view name) const { return parse_json(read(name), place(name)); }

std::string TextFiles::place(std::string_view name) const {
  return in_directory_ ? (path_ / name).string() : fmt::format("{} ({})", path_.string(), name);
}

}  // namespace pq
