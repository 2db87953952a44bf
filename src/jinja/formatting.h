#pragma once

#include <string>
#include <string_view>

#include "jinja/value.h"

namespace pq::jinja {

/// Python's `format % value`: a tuple gives the conversions their values one by one, a dict those with (names).
std::string percent_format(Run& run, std::string_view format, const Value& value);

/// Python's str.format: "{}", "{0}", "{name}", "{a.b[c]!r:>8.3f}".
std::string brace_format(Run& run, std::string_view format, const Arguments& arguments);

/// Python's round(x, digits) of a float: to even where both neighbours are as near.
double round_half_even(double value, std::int64_t digits);

}  // namespace pq::jinja
