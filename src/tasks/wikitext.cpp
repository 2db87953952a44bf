#include "tasks/wikitext.h"

#include <utility>

#include "tasks/python_text.h"

namespace pq::tasks {
namespace {

using Replacement = std::pair<std::string_view, std::string_view>;
constexpr Replacement separators[] = {{" @-@ ", "-"}, {" @,@ ", ","}, {" @.@ ", "."}, {" : ", ": "}, {" ; ", "; "},
                                      {" . ", ". "},  {" ! ", "! "},  {" ? ", "? "},  {" , ", ", "}};
constexpr Replacement others[] = {{"= = = =", "===="}, {"= = =", "==="}, {"= =", "=="},  {" \xC2\xB0 ", "\xC2\xB0"},
                                  {" \n", "\n"},       {"\n ", "\n"},    {" N ", " 1 "}, {" 's", "'s"}};

/// Python's re.sub of `OPEN\s*([^CLOSE]*?)\s*CLOSE` by `OPEN\1CLOSE`.
std::string without_space_inside(std::string_view text, char open, char close) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = text.find(open, at);
    const std::size_t end = begin == std::string_view::npos ? begin : text.find(close, begin + 1);
    if (end == std::string_view::npos) {
      out += text.substr(at);
      break;
    }
    out += text.substr(at, begin + 1 - at);
    out += strip(text.substr(begin + 1, end - begin - 1));
    out += close;
    at = end + 1;
  }
  return out;
}

}  // namespace

std::vector<std::string> wikitext_pages(std::string_view raw) {
  std::vector<std::string> pages;
  std::string page;
  bool empty = true;  // no line yet
  const auto finish = [&] {
    if (!strip(page).empty()) pages.push_back(page);
    page.clear();
    empty = true;
  };
  for (std::size_t begin = 0; begin <= raw.size();) {
    const std::size_t end = std::min(raw.find('\n', begin), raw.size());
    const std::string_view line = raw.substr(begin, end - begin);
    begin = end + 1;
    const std::string heading = replace_all(replace_all(line, "= = =", "==="), "= =", "==");
    const std::string_view stripped = strip(heading);
    if (stripped.starts_with("= ") && stripped.ends_with(" =")) finish();
    if (!std::exchange(empty, false)) page += '\n';
    page += line;
  }
  finish();
  return pages;
}

std::string wikitext_detokenize(std::string_view page) {
  std::string text(page);
  const auto replace = [&](std::string_view old, std::string_view replacement) {
    text = replace_all(text, old, replacement);
  };
  replace("s '", "s'");
  for (const auto& [old, replacement] : separators) {
    replace(old, replacement);
  }
  text = without_space_inside(text, '(', ')');
  text = without_space_inside(text, '[', ']');
  text = without_space_inside(text, '{', '}');
  text = without_space_inside(text, '"', '"');
  text = without_space_inside(text, '\'', '\'');
  for (const auto& [old, replacement] : others) {
    replace(old, replacement);
  }
  return text;
}

Document wikitext_document(std::string where, const std::string& page) {
  Document document{.where = std::move(where), .prompts = {}, .characters = {}};
  document.prompts.push_back({"", wikitext_detokenize(page)});
  document.characters.push_back(0);
  document.words = count_words(page);
  document.bytes = static_cast<std::int64_t>(page.size());
  return document;
}

}  // namespace pq::tasks
