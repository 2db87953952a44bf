#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace pq {

/// At most this many steps in a Sequence of normalizers, pre-tokenizers, decoders or post-processors.
inline constexpr std::size_t max_steps = 32;

/// One object of tokenizer.json, read with errors that name the file and the path to the field.
/// nlohmann::json (sorted keys), not pq::Json: an ordered object looks its keys up one by one, which a hostile file
/// would turn into quadratic time.
class JsonFields {
 public:
  /// Throws FormatError when `json` is not an object. `json` must outlive this.
  JsonFields(const nlohmann::json& json, std::string_view file, std::string path);

  /// The field, or nullptr when it is missing or null.
  const nlohmann::json* find(std::string_view key) const;
  const nlohmann::json& required(std::string_view key) const;
  /// The elements of a required array, each as the path "PATH.KEY[i]" with at most `limit` of them.
  const nlohmann::json& array(std::string_view key, std::size_t limit) const;
  JsonFields object(std::string_view key) const;
  JsonFields element(std::string_view key, std::size_t index) const;

  std::string string(std::string_view key) const;
  std::optional<std::string> optional_string(std::string_view key) const;
  /// A string of exactly one character, as UTF-8.
  std::string character(std::string_view key) const;
  bool boolean(std::string_view key, bool fallback) const;
  /// A whole number in [0, max].
  std::uint64_t number(std::string_view key, std::uint64_t max) const;

  std::string_view file() const { return file_; }
  std::string path(std::string_view key) const;
  [[noreturn]] void format_error(std::string_view key, std::string_view what) const;
  [[noreturn]] void unsupported(std::string_view what, std::string_view remedy = {}) const;

 private:
  const nlohmann::json* json_;
  std::string_view file_;
  std::string path_;
};

/// A number in [0, max], or FormatError.
std::uint64_t json_number(const nlohmann::json& json, std::uint64_t max, std::string_view file, std::string_view path);

}  // namespace pq
