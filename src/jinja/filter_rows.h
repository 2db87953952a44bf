#pragma once

#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "jinja/value.h"

namespace pq::jinja {

/// One of Jinja's filters, `input | name(arguments)`.
using Filter = Value (*)(Run& run, const Value& input, const Arguments& arguments);

struct FilterRow {
  std::string_view name;
  Filter filter;
};

/// Those that look at one value, and those that go through the items of one.
std::span<const FilterRow> value_filters();
std::span<const FilterRow> sequence_filters();

/// What Arguments::bind gives.
using Bound = std::vector<std::optional<Value>>;

/// An argument that is a switch.
inline bool flag(const std::optional<Value>& value) { return value && value->truthy(); }

}  // namespace pq::jinja
