#pragma once

#include <cstddef>
#include <string_view>

namespace pq {

/// Columns that `text` takes on a terminal: two for a wide character, none for a combining mark or a control character.
/// Bytes that are not UTF-8 take one each.
std::size_t display_width(std::string_view text);

/// The longest beginning of `text`, in whole characters with their combining marks, that takes at most `columns`.
std::string_view cut_to_width(std::string_view text, std::size_t columns);

}  // namespace pq
