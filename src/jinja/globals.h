#pragma once

#include <ctime>
#include <string_view>
#include <utility>
#include <vector>

#include "jinja/value.h"

namespace pq::jinja {

// The functions that every template can call, and that need nothing of the rendering.

/// strftime_now(format) of transformers: `now` in local time.
Value strftime_now(Run& run, const Arguments& arguments, std::time_t now);
Value range(Run& run, const Arguments& arguments);
/// dict(...) and namespace(...): the items of a dict, then the named ones. `function` is for the message.
std::vector<std::pair<Value, Value>> named_items(Run& run, std::string_view function, const Arguments& arguments);

}  // namespace pq::jinja
