#pragma once

#include <string_view>

#include "jinja/value.h"

namespace pq::jinja {

/// One of Jinja's tests, `input is name(arguments)`.
using Test = bool (*)(Run& run, const Value& input, const Arguments& arguments);

/// By name; nullptr when there is none.
Test find_test(std::string_view name);

}  // namespace pq::jinja
