#include "tasks/python_text.h"

#include "jinja/text.h"
#include "text/unicode.h"

namespace pq::tasks {

std::string replace_all(std::string_view text, std::string_view old, std::string_view replacement) {
  jinja::Run run("text");
  return jinja::replace(run, text, old, replacement, -1);
}

std::string_view strip_end(std::string_view text) {
  jinja::Run run("text");
  return jinja::strip(run, text, nullptr, false, true);
}

std::string_view strip(std::string_view text) {
  jinja::Run run("text");
  return jinja::strip(run, text, nullptr, true, true);
}

std::int64_t count_characters(std::string_view text) {
  jinja::Run run("text");
  return static_cast<std::int64_t>(jinja::count_characters(run, text));
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
