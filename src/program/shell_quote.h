#pragma once

#include <string>
#include <string_view>

namespace pq {

/// Text between single quotes of a shell.
std::string shell_quoted(std::string_view text);
/// As a shell takes it for one word that is no flag: quoted where it has to be.
std::string shell_word(std::string text);

}  // namespace pq
