#pragma once

#include <span>
#include <string_view>

#include "jinja/value.h"

namespace pq::jinja {

using Method = Value (*)(Run& run, const Value& self, const Arguments& arguments);
struct MethodRow {
  std::string_view name;
  Method call;  ///< nullptr: Python has it, this program or the sandbox of chat templates does not
};

/// The methods of a string.
std::span<const MethodRow> string_methods();

}  // namespace pq::jinja
