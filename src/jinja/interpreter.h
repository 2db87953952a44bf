#pragma once

#include <ctime>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "jinja/syntax.h"

namespace pq::jinja {

/// A parsed template with its variables. `now` is what strftime_now() shows. Throws InputError (the template raised an
/// exception, or did what Python refuses), UnsupportedError (a part of Jinja that is not here, more than 16 MiB of
/// output, too many steps), both with the line.
std::string render(const Block& block, Run& run, const std::vector<std::pair<std::string, Value>>& variables,
                   std::time_t now);

}  // namespace pq::jinja
