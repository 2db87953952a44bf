#pragma once

#include <span>
#include <string>
#include <string_view>

#include "jinja/run.h"

namespace pq::jinja {

/// A character whose upper or title case is more than one character ("SS" and "Ss" of "ß").
struct SpecialCase {
  char32_t character;
  std::string_view upper;
  std::string_view title;
};
/// In order of the characters. Source: SpecialCasing.txt of Unicode 14, what holds in every language.
std::span<const SpecialCase> special_cases();

// Python's methods of str that change case, over valid UTF-8.

std::string upper(Run& run, std::string_view text);
std::string lower(Run& run, std::string_view text);
std::string swapcase(Run& run, std::string_view text);
std::string casefold(Run& run, std::string_view text);
/// The first character in title case, the others in lower.
std::string capitalize(Run& run, std::string_view text);
/// Title case after every character that has no case, as str.title.
std::string title(Run& run, std::string_view text);
/// Words that begin behind white space, hyphens and opening brackets, as Jinja's filter `title`.
std::string title_words(Run& run, std::string_view text);

/// Lu, Ll, Lt and what counts as one of them.
bool is_upper_case(char32_t c) noexcept;
bool is_lower_case(char32_t c) noexcept;
bool is_title_case(char32_t c) noexcept;

}  // namespace pq::jinja
