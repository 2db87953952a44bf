#include "base/display_width.h"

#include <utf8proc.h>

#include <algorithm>

namespace pq {
namespace {

struct Character {
  std::size_t bytes;
  std::size_t columns;
};

Character first_character(std::string_view text) {
  utf8proc_int32_t point = -1;
  const auto bytes = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                      static_cast<utf8proc_ssize_t>(text.size()), &point);
  if (bytes <= 0) return {1, 1};
  return {static_cast<std::size_t>(bytes), static_cast<std::size_t>(std::max(utf8proc_charwidth(point), 0))};
}

}  // namespace

std::size_t display_width(std::string_view text) {
  std::size_t columns = 0;
  while (!text.empty()) {
    const Character character = first_character(text);
    columns += character.columns;
    text.remove_prefix(character.bytes);
  }
  return columns;
}

std::string_view cut_to_width(std::string_view text, std::size_t columns) {
  std::size_t used = 0;
  std::size_t bytes = 0;
  while (bytes < text.size()) {
    const Character character = first_character(text.substr(bytes));
    used += character.columns;
    if (used > columns) break;
    bytes += character.bytes;
  }
  return text.substr(0, bytes);
}

}  // namespace pq
