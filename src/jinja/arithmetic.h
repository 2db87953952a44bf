#pragma once

#include <string_view>

#include "jinja/value.h"

namespace pq::jinja {

/// a + b and the like; `sign` is one of + - * / // % **. Throws InputError for types that have no such operation.
Value arithmetic(Run& run, std::string_view sign, const Value& a, const Value& b);
Value negated(Run& run, const Value& value);

}  // namespace pq::jinja
