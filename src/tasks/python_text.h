#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace pq::tasks {

// Python's operations on str, over valid UTF-8.

std::string replace_all(std::string_view text, std::string_view old, std::string_view replacement);
/// Without white space (str.isspace) at both ends.
std::string_view strip(std::string_view text);
/// Without white space at the end.
std::string_view strip_end(std::string_view text);
/// len(text).
std::int64_t count_characters(std::string_view text);
/// len(re.split(r"\s+", text)): empty pieces at the ends count.
std::int64_t count_words(std::string_view text);

}  // namespace pq::tasks
