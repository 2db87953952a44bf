#pragma once

#include <string_view>

#include "jinja/filter_rows.h"

namespace pq::jinja {

/// By name; nullptr when there is none.
Filter find_filter(std::string_view name);

}  // namespace pq::jinja
