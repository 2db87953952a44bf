#pragma once

#include <optional>
#include <string_view>

#include "jinja/value.h"

namespace pq::jinja {

/// x.name and x[key], undefined when there is none.
Value attribute(Run& run, const Value& value, std::string_view name);
Value item(Run& run, const Value& value, const Value& key);
/// x[start:stop:step]; none stands for what is left out.
Value slice(Run& run, const Value& value, const Value& start, const Value& stop, const Value& step);

/// A method of a string, list or dict, bound to it; nullopt when Python has none of that name.
std::optional<Value> method(Run& run, const Value& value, std::string_view name);

}  // namespace pq::jinja
