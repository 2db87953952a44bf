#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "jinja/run.h"

namespace pq::jinja {

// Python's operations on str, over valid UTF-8. Upper and lower case map one character to one (Python makes "SS" of
// "ß").

/// str.isspace of one character.
bool is_python_space(char32_t c) noexcept;

std::size_t count_characters(Run& run, std::string_view text);
/// Pays for looking for `needle` in `text`, at worst at every place.
void spend_search(Run& run, std::string_view text, std::string_view needle);

/// Removes white space, or any of `characters`, from the chosen ends.
std::string_view strip(Run& run, std::string_view text, const std::string* characters, bool left, bool right);

std::string upper(Run& run, std::string_view text);
std::string lower(Run& run, std::string_view text);
/// The first character in upper case, the others in lower.
std::string capitalize(Run& run, std::string_view text);
/// Upper case after every character that is no letter, as str.title.
std::string title(Run& run, std::string_view text);
/// Upper case after white space, hyphens and opening brackets, as Jinja's filter `title`.
std::string title_words(Run& run, std::string_view text);

/// A negative `count` replaces all.
std::string replace(Run& run, std::string_view text, std::string_view old, std::string_view replacement,
                    std::int64_t count);
/// str.split: at runs of white space without a separator; a negative `count` splits everywhere. The parts lie in
/// `text`.
std::vector<std::string_view> split(Run& run, std::string_view text, const std::string* separator, std::int64_t count);
/// str.splitlines. The lines lie in `text`.
std::vector<std::string_view> split_lines(Run& run, std::string_view text);
/// Number of places, one after the other, where `needle` stands.
std::int64_t count_text(Run& run, std::string_view text, std::string_view needle);
/// In characters; -1 when it is not there.
std::int64_t find_text(Run& run, std::string_view text, std::string_view needle, bool last);

/// Python's repr of a float.
std::string float_text(double value);

}  // namespace pq::jinja
