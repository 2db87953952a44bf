#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace pq::tasks {

/// One object of a file of JSON lines. A field may be named by its path: "choices.text".
class JsonLine {
 public:
  JsonLine(std::string where, Json fields) : where_(std::move(where)), fields_(std::move(fields)) {}

  /// "FILE, line N".
  const std::string& where() const { return where_; }
  bool has(std::string_view field) const;
  // Each throws FormatError with file, line and field where the field is missing or is something else.
  std::string text(std::string_view field) const;
  std::vector<std::string> texts(std::string_view field) const;
  /// A whole number, or a text that is one.
  std::int64_t number(std::string_view field) const;
  /// number() of a choice; throws FormatError unless first <= number < first + count. Returns number - first.
  std::size_t choice(std::string_view field, std::size_t count, std::int64_t first = 0) const;
  /// Throws FormatError: "FILE, line N: field `F` WHAT".
  [[noreturn]] void refuse(std::string_view field, std::string_view what) const;

 private:
  const Json* find(std::string_view path) const;
  const Json& get(std::string_view path) const;

  std::string where_;
  Json fields_;
};

/// The objects of a file, plain or gzip; empty lines are none. Throws InputError (no such file, not UTF-8), FormatError
/// with file and line for a line that is no JSON object.
std::vector<JsonLine> read_json_lines(const std::filesystem::path& path);

}  // namespace pq::tasks
