#pragma once

#include <string_view>

#include "jinja/syntax.h"

namespace pq::jinja {

/// Throws FormatError (not Jinja), UnsupportedError (Jinja, but not of the part that chat templates use), both with the
/// line. `where` names the template.
Block parse_template(std::string_view text, std::string_view where);

}  // namespace pq::jinja
