#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "jinja/run.h"

namespace pq::jinja {

// Python's operations on str, over valid UTF-8; those that change case are in letter_case.h.

/// str.isspace of one character.
bool is_python_space(char32_t c) noexcept;

std::size_t count_characters(Run& run, std::string_view text);
/// Pays for looking for `needle` in `text`, at worst at every place.
void spend_search(Run& run, std::string_view text, std::string_view needle);

/// Removes white space, or any of `characters`, from the chosen ends.
std::string_view strip(Run& run, std::string_view text, const std::string* characters, bool left, bool right);

/// A negative `count` replaces all.
std::string replace(Run& run, std::string_view text, std::string_view old, std::string_view replacement,
                    std::int64_t count);
/// str.split: at runs of white space without a separator; a negative `count` splits everywhere. The parts lie in
/// `text`.
std::vector<std::string_view> split(Run& run, std::string_view text, const std::string* separator, std::int64_t count);
/// str.rsplit: as split, with the `count` places nearest to the end. The parts lie in `text`.
std::vector<std::string_view> split_from_end(Run& run, std::string_view text, const std::string* separator,
                                             std::int64_t count);
/// How many characters `text` has less than `width`; 0 when it has more.
std::int64_t missing_characters(Run& run, std::string_view text, std::int64_t width);
/// `text` with `fill` so many times before and behind it.
std::string padded(Run& run, std::string_view text, std::int64_t before, std::int64_t after, std::string_view fill);
/// str.center.
std::string centered(Run& run, std::string_view text, std::int64_t width, std::string_view fill);
/// str.splitlines. The lines lie in `text`.
std::vector<std::string_view> split_lines(Run& run, std::string_view text);
/// Number of places, one after the other, where `needle` stands.
std::int64_t count_text(Run& run, std::string_view text, std::string_view needle);
/// In characters; -1 when it is not there.
std::int64_t find_text(Run& run, std::string_view text, std::string_view needle, bool last);

/// Python's repr of a float.
std::string float_text(double value);

}  // namespace pq::jinja
