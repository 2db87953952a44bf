#pragma once

#include <optional>
#include <string>

#include "jinja/value.h"

namespace pq::jinja {

/// Python's str(x) and repr(x); str of an undefined value is empty.
std::string to_text(Run& run, const Value& value);
std::string to_repr(Run& run, const Value& value);

/// json.dumps(value, ensure_ascii, indent, separators, sort_keys); no indent means one line.
struct JsonStyle {
  bool ensure_ascii = false;
  std::optional<std::string> indent;
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool sort_keys = false;
};
std::string to_json(Run& run, const Value& value, const JsonStyle& style);

}  // namespace pq::jinja
