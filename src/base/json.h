#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string_view>

namespace pq {

using Json = nlohmann::ordered_json;

/// Parses `text` in n log n of its size n; at most `max_depth` nested levels. Of equal keys of an object the last one's
/// value counts, at the place of the first. NaN, Infinity and -Infinity are numbers, as Python writes them: whoever
/// uses a number checks that it is finite. `where` names the file in the error. Throws FormatError with the byte at
/// which the text stops being JSON.
Json parse_json(std::string_view text, std::string_view where, int max_depth = 64);

/// parse_json of a whole file.
Json read_json_file(const std::filesystem::path& path, int max_depth = 64);

}  // namespace pq
