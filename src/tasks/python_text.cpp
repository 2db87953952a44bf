#include "tasks/python_text.h"

#include "jinja/text.h"
#include "text/unicode.h"

namespace pq::tasks {

std::string replace_all(std::string_view text, std::string_view old, std::string_view replacement) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t found = text.find(old, at);
    out += text.substr(at, found - at);
    if (found == std::string_view::npos) break;
    out += replacement;
    at = found + old.size();
  }
  return out;
}

std::string_view strip_end(std::string_view text) {
  while (!text.empty()) {
    const std::string_view last = last_character(text);
    if (!jinja::is_python_space(first_code_point(last))) break;
    text.remove_suffix(last.size());
  }
  return text;
}

std::string_view strip(std::string_view text) {
  text = strip_end(text);
  while (!text.empty() && jinja::is_python_space(first_code_point(text))) text.remove_prefix(utf8_length(text.front()));
  return text;
}

std::int64_t count_characters(std::string_view text) {
  std::int64_t count = 0;
  for (const char byte : text) count += (static_cast<unsigned char>(byte) & 0xc0U) != 0x80U ? 1 : 0;
  return count;
}

std::int64_t count_words(std::string_view text) {
  std::int64_t runs = 0;
  bool in_run = false;
  for (std::size_t at = 0; at < text.size(); at += utf8_length(text[at])) {
    const bool space = jinja::is_python_space(first_code_point(text.substr(at)));
    if (space && !in_run) ++runs;
    in_run = space;
  }
  return runs + 1;
}

}  // namespace pq::tasks
