#include "tasks/json_lines.h"

#include <fmt/format.h>

#include <charconv>
#include <optional>

#include "base/error.h"
#include "base/files.h"
#include "text/documents.h"

namespace pq::tasks {
namespace {

std::optional<std::int64_t> whole_number(const Json& value) {
  if (value.is_number_integer()) return value.get<std::int64_t>();
  if (!value.is_string()) return std::nullopt;
  const auto& text = value.get_ref<const std::string&>();
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

}  // namespace

const Json* JsonLine::find(std::string_view path) const {
  const Json* at = &fields_;
  while (true) {
    const std::size_t dot = path.find('.');
    const auto next = at->is_object() ? at->find(std::string(path.substr(0, dot))) : at->end();
    if (!at->is_object() || next == at->end()) return nullptr;
    at = &*next;
    if (dot == std::string_view::npos) return at;
    path.remove_prefix(dot + 1);
  }
}

bool JsonLine::has(std::string_view field) const { return find(field) != nullptr; }

void JsonLine::refuse(std::string_view field, std::string_view what) const {
  throw FormatError(where_, fmt::format("field `{}` {}", field, what), "mend the line, or fetch the file again");
}

const Json& JsonLine::get(std::string_view path) const {
  const Json* value = find(path);
  if (value == nullptr) refuse(path, "is missing");
  return *value;
}

std::string JsonLine::text(std::string_view field) const {
  const Json& value = get(field);
  if (!value.is_string()) refuse(field, "is no text");
  return value.get<std::string>();
}

std::vector<std::string> JsonLine::texts(std::string_view field) const {
  const Json& value = get(field);
  if (!value.is_array()) refuse(field, "is no list");
  std::vector<std::string> texts;
  for (const Json& one : value) {
    if (!one.is_string()) refuse(field, fmt::format("holds {}, which is no text", one.dump()));
    texts.push_back(one.get<std::string>());
  }
  return texts;
}

std::int64_t JsonLine::number(std::string_view field) const {
  const Json& value = get(field);
  const auto number = whole_number(value);
  if (!number) refuse(field, fmt::format("is {}, not a whole number", value.dump()));
  return *number;
}

std::size_t JsonLine::choice(std::string_view field, std::size_t count, std::int64_t first) const {
  const std::int64_t value = number(field);
  if (value < first || value - first >= static_cast<std::int64_t>(count)) {
    refuse(field, fmt::format("is {}, but the {} choices are {} to {}", value, count, first,
                              first + static_cast<std::int64_t>(count) - 1));
  }
  return static_cast<std::size_t>(value - first);
}

std::vector<JsonLine> read_json_lines(const std::filesystem::path& path) {
  const std::string text = read_text_file(path);
  const std::string name = path.string();
  require_utf8(text, name);
  std::vector<JsonLine> lines;
  std::int64_t number = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    std::string where = fmt::format("{}, line {}", name, number);
    Json fields = parse_json(line, where);
    if (!fields.is_object()) throw FormatError(where, "is no JSON object", "a document is one object on one line");
    lines.emplace_back(std::move(where), std::move(fields));
  }
  if (lines.empty()) throw FormatError(name, "holds no documents", "fetch the file again");
  return lines;
}

}  // namespace pq::tasks
