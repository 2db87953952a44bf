#include "program/shell_quote.h"

namespace pq {

std::string shell_quoted(std::string_view text) {
  std::string quoted = "'";
  for (const char c : text) {
    if (c == '\'') {
      quoted += "'\\''";
    } else {
      quoted += c;
    }
  }
  return quoted + "'";
}

std::string shell_word(std::string text) {
  constexpr std::string_view plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./@%+=:,-";
  if (text.starts_with('-')) text.insert(0, "./");
  return text.find_first_not_of(plain) == std::string::npos ? text : shell_quoted(text);
}

}  // namespace pq
