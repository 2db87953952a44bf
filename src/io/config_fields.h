#pragma once

#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/json.h"
#include "base/json_literals.h"

namespace pq::io {

/// Reads fields of one JSON object, with errors that name file and field.
class Fields {
 public:
  Fields(const Json& json, std::string_view where) : json_(json), where_(where) {
    if (!json.is_object()) throw FormatError(where, "is not a JSON object", "fetch the file again");
  }

  /// Null for an absent field and for one that is null.
  const Json* find(std::string_view key) const {
    const auto found = json_.find(key);
    return found == json_.end() || found->is_null() ? nullptr : &*found;
  }
  bool contains(std::string_view key) const { return json_.contains(key); }

  std::int64_t integer(std::string_view key, std::int64_t low, std::int64_t high,
                       std::optional<std::int64_t> absent = {}) const {
    const Json* value = find(key);
    if (value == nullptr) {
      if (absent) return *absent;
      lie(key, "is missing");
    }
    return integer_value(key, *value, low, high);
  }

  std::int64_t integer_value(std::string_view key, const Json& value, std::int64_t low, std::int64_t high) const {
    const bool unsigned_overflow =
        value.is_number_unsigned() && value.get<std::uint64_t>() > static_cast<std::uint64_t>(high);
    if (!value.is_number_integer() || unsigned_overflow || value.get<std::int64_t>() < low ||
        value.get<std::int64_t>() > high) {
      lie(key, fmt::format("is {}, not an integer from {} to {}", brief(value), low, high));
    }
    return value.get<std::int64_t>();
  }

  double positive(std::string_view key, double absent) const {
    const Json* value = find(key);
    if (value == nullptr) return absent;
    if (!value->is_number() || !std::isfinite(value->get<double>()) || value->get<double>() <= 0) {
      lie(key, fmt::format("is {}, not a number above 0", brief(*value)));
    }
    return value->get<double>();
  }

  bool boolean(std::string_view key, bool absent) const {
    const Json* value = find(key);
    if (value == nullptr) return absent;
    if (!value->is_boolean()) lie(key, fmt::format("is {}, not true or false", brief(*value)));
    return value->get<bool>();
  }

  std::string string(std::string_view key) const {
    const Json* value = find(key);
    if (value == nullptr) lie(key, "is missing");
    if (!value->is_string()) lie(key, fmt::format("is {}, not a string", brief(*value)));
    return value->get<std::string>();
  }

  [[noreturn]] void lie(std::string_view key, std::string_view what) const {
    throw FormatError(where_, fmt::format("field '{}' {}", key, what), "fetch the original config.json");
  }
  [[noreturn]] void refuse(std::string_view key, const Json& value) const {
    throw UnsupportedError(
        where_, fmt::format("field '{}' = {} changes the arithmetic and is not supported", key, brief(value)),
        "choose a model without it");
  }

  static std::string brief(const Json& value) {
    if (value.is_number_float() && !std::isfinite(value.get<double>())) return number_text(value.get<double>());
    std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
    if (text.size() > 60) text = text.substr(0, 57) + "...";
    return text;
  }

  const Json& json() const { return json_; }
  std::string_view where() const { return where_; }

 private:
  const Json& json_;
  std::string_view where_;
};

}  // namespace pq::io
