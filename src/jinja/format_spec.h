#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "jinja/value.h"

namespace pq::jinja {

/// How one value is to be written; str.format and % say it in different words.
struct FormatSpec {
  std::string fill = " ";  ///< one character
  char align = '\0';       ///< '<' '>' '^' '=' (behind the sign); '\0': as the type has it
  char sign = '-';         ///< '-' '+' ' '
  bool alternate = false;  ///< "0x" in front of hexadecimal numbers
  std::int64_t width = 0;
  char grouping = '\0';  ///< ',' '_'
  std::optional<std::int64_t> precision;
  char type = '\0';
};

/// A whole number in base 10, 16, 8, 2 (types d x X o b) with at least `precision` digits.
std::string format_whole(Run& run, const FormatSpec& spec, std::int64_t value);
/// Types f F e E g G %.
std::string format_real(Run& run, const FormatSpec& spec, double value);
/// Text, cut to `precision` characters.
std::string format_text(Run& run, const FormatSpec& spec, std::string_view text);

/// Python's format(value, spec).
std::string format_value(Run& run, std::string_view spec, const Value& value);

}  // namespace pq::jinja
