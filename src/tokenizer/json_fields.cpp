#include "tokenizer/json_fields.h"

#include <fmt/format.h>

#include "base/json_literals.h"
#include "text/unicode.h"

namespace pq {

JsonFields::JsonFields(const nlohmann::json& json, std::string_view file, std::string path)
    : json_(&json), file_(file), path_(std::move(path)) {
  if (!json.is_object()) {
    throw FormatError(file_,
                      fmt::format("{} is {}, not an object", path_.empty() ? "the file" : path_, json.type_name()),
                      "this is not a tokenizer.json of Hugging Face tokenizers");
  }
}

std::string JsonFields::path(std::string_view key) const {
  return path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key);
}

void JsonFields::format_error(std::string_view key, std::string_view what) const {
  throw FormatError(file_, fmt::format("{} {}", path(key), what), "download the file again");
}

void JsonFields::unsupported(std::string_view what, std::string_view remedy) const {
  throw UnsupportedError(file_, path_.empty() ? std::string(what) : fmt::format("{}: {}", path_, what), remedy);
}

const nlohmann::json* JsonFields::find(std::string_view key) const {
  const auto found = json_->find(std::string(key));
  return found == json_->end() || found->is_null() ? nullptr : &*found;
}

const nlohmann::json& JsonFields::required(std::string_view key) const {
  const nlohmann::json* found = find(key);
  if (found == nullptr) format_error(key, "is missing");
  return *found;
}

const nlohmann::json& JsonFields::array(std::string_view key, std::size_t limit) const {
  const nlohmann::json& found = required(key);
  if (!found.is_array()) format_error(key, fmt::format("is {}, not an array", found.type_name()));
  if (found.size() > limit) unsupported(fmt::format("{} has {} entries, more than {}", key, found.size(), limit));
  return found;
}

JsonFields JsonFields::object(std::string_view key) const { return {required(key), file_, path(key)}; }

JsonFields JsonFields::element(std::string_view key, std::size_t index) const {
  return {required(key).at(index), file_, fmt::format("{}[{}]", path(key), index)};
}

std::string JsonFields::string(std::string_view key) const {
  const nlohmann::json& found = required(key);
  if (!found.is_string()) format_error(key, fmt::format("is {}, not a string", found.type_name()));
  return found.get<std::string>();
}

std::optional<std::string> JsonFields::optional_string(std::string_view key) const {
  if (find(key) == nullptr) return std::nullopt;
  return string(key);
}

std::string JsonFields::character(std::string_view key) const {
  std::string text = string(key);
  if (text.empty() || utf8_length(text[0]) != text.size())
    format_error(key, fmt::format("is '{}', not one character", text));
  return text;
}

bool JsonFields::boolean(std::string_view key, bool fallback) const {
  const nlohmann::json* found = find(key);
  if (found == nullptr) return fallback;
  if (!found->is_boolean()) format_error(key, fmt::format("is {}, not true or false", found->type_name()));
  return found->get<bool>();
}

std::uint64_t JsonFields::number(std::string_view key, std::uint64_t max) const {
  return json_number(required(key), max, file_, path(key));
}

std::uint64_t json_number(const nlohmann::json& json, std::uint64_t max, std::string_view file, std::string_view path) {
  if (!json.is_number_unsigned() || json.get<std::uint64_t>() > max) {
    throw FormatError(file,
                      fmt::format("{} is {}, not a whole number from 0 to {}", path,
                                  json.is_number_float() ? number_text(json.get<double>())
                                  : json.is_number()     ? json.dump()
                                                         : json.type_name(),
                                  max),
                      "download the file again");
  }
  return json.get<std::uint64_t>();
}

}  // namespace pq
