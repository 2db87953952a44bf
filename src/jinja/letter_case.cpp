#include "jinja/letter_case.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>

#include "base/error.h"
#include "jinja/text.h"
#include "text/unicode.h"

namespace pq::jinja {
namespace {

constexpr char32_t capital_sigma = 0x3a3;
constexpr char32_t final_sigma = 0x3c2;

utf8proc_int32_t point(char32_t c) { return static_cast<utf8proc_int32_t>(c); }

bool is_cased(char32_t c) { return is_upper_case(c) || is_lower_case(c) || is_title_case(c); }

/// What does not end a word: marks, formats, modifiers, and apostrophes and the like.
bool is_case_ignorable(char32_t c) {
  switch (utf8proc_category(point(c))) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
      return true;
    default:
      return c == '\'' || c == '.' || c == ':' || c == 0xb7 || c == 0x2018 || c == 0x2019 || c == 0x2024 || c == 0x2027;
  }
}

const SpecialCase* special_case(char32_t c) {
  const auto rows = special_cases();
  const auto row = std::lower_bound(rows.begin(), rows.end(), c,
                                    [](const SpecialCase& r, char32_t value) { return r.character < value; });
  return row == rows.end() || row->character != c ? nullptr : &*row;
}

void append_upper(std::string& out, char32_t c) {
  if (const SpecialCase* special = special_case(c)) {
    out += special->upper;
  } else {
    append_utf8(out, static_cast<char32_t>(utf8proc_toupper(point(c))));
  }
}

void append_title(std::string& out, char32_t c) {
  if (const SpecialCase* special = special_case(c)) {
    out += special->title;
  } else {
    append_utf8(out, static_cast<char32_t>(utf8proc_totitle(point(c))));
  }
}

/// A text going by, character by character.
struct Place {
  std::string_view before;
  char32_t c;
  std::string_view after;
};

/// A sigma at the end of a word has another form.
bool ends_word(const Place& place) {
  std::string_view before = place.before;
  while (!before.empty() && is_case_ignorable(first_code_point(last_character(before))))
    before.remove_suffix(last_character(before).size());
  if (before.empty() || !is_cased(first_code_point(last_character(before)))) return false;
  std::string_view after = place.after;
  while (!after.empty() && is_case_ignorable(first_code_point(after))) after.remove_prefix(utf8_length(after[0]));
  return after.empty() || !is_cased(first_code_point(after));
}

void append_lower(std::string& out, const Place& place) {
  if (place.c == capital_sigma && ends_word(place)) {
    append_utf8(out, final_sigma);
  } else {
    append_lower_case(out, place.c);
  }
}

/// `append` is called with each place and the character before it (0 for none).
template <typename Append>
std::string change_case(Run& run, std::string_view text, const Append& append) {
  run.spend(8 * text.size());
  std::string out;
  out.reserve(text.size());
  char32_t before = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = at + utf8_length(text[at]);
    const char32_t c = first_code_point(text.substr(at));
    if (c == capital_sigma) run.spend(text.size() / 16);
    append(out, Place{text.substr(0, at), c, text.substr(end)}, before);
    before = c;
    at = end;
  }
  return out;
}

}  // namespace

bool is_upper_case(char32_t c) noexcept { return utf8proc_isupper(point(c)) != 0; }
bool is_lower_case(char32_t c) noexcept { return utf8proc_islower(point(c)) != 0; }
bool is_title_case(char32_t c) noexcept { return utf8proc_category(point(c)) == UTF8PROC_CATEGORY_LT; }

std::string upper(Run& run, std::string_view text) {
  return change_case(run, text, [](std::string& out, const Place& place, char32_t) { append_upper(out, place.c); });
}

std::string lower(Run& run, std::string_view text) {
  return change_case(run, text, [](std::string& out, const Place& place, char32_t) { append_lower(out, place); });
}

std::string swapcase(Run& run, std::string_view text) {
  return change_case(run, text, [](std::string& out, const Place& place, char32_t) {
    if (is_upper_case(place.c)) {
      append_lower(out, place);
    } else if (is_lower_case(place.c)) {
      append_upper(out, place.c);
    } else {
      append_utf8(out, place.c);
    }
  });
}

std::string casefold(Run& run, std::string_view text) {
  return change_case(run, text, [](std::string& out, const Place& place, char32_t) {
    std::array<utf8proc_int32_t, 8> folded{};
    int boundary = 0;
    const auto count =
        utf8proc_decompose_char(point(place.c), folded.data(), folded.size(), UTF8PROC_CASEFOLD, &boundary);
    for (utf8proc_ssize_t i = 0; i < std::min<utf8proc_ssize_t>(count, folded.size()); ++i)
      append_utf8(out, static_cast<char32_t>(folded[static_cast<std::size_t>(i)]));
  });
}

std::string capitalize(Run& run, std::string_view text) {
  return change_case(run, text, [](std::string& out, const Place& place, char32_t before) {
    before == 0 ? append_title(out, place.c) : append_lower(out, place);
  });
}

std::string title(Run& run, std::string_view text) {
  return change_case(run, text, [](std::string& out, const Place& place, char32_t before) {
    is_cased(before) ? append_lower(out, place) : append_title(out, place.c);
  });
}

std::string title_words(Run& run, std::string_view text) {
  const auto separates = [&](std::size_t at) {
    constexpr std::string_view brackets = "-({[<";
    return brackets.find(text[at]) != std::string_view::npos || is_python_space(first_code_point(text.substr(at)));
  };
  std::string out;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t second = begin + utf8_length(text[begin]);
    std::size_t end = second;
    while (end < text.size() && separates(end) == separates(begin)) end += utf8_length(text[end]);
    out += upper(run, text.substr(begin, second - begin)) + lower(run, text.substr(second, end - second));
    begin = end;
  }
  return out;
}

}  // namespace pq::jinja
