#include "base/json.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/files.h"

namespace pq {

Json parse_json(std::string_view text, std::string_view where, int max_depth) {
  bool too_deep = false;
  const auto guard = [&](int depth, Json::parse_event_t, Json&) {
    if (depth > max_depth) too_deep = true;
    if (too_deep)
      throw FormatError(where, fmt::format("JSON is nested deeper than {} levels", max_depth),
                        "this is not a file of the kind expected");
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), guard);
  } catch (const Json::parse_error& error) {
    throw FormatError(where, fmt::format("is not valid JSON (at byte {})", error.byte),
                      "the file may be cut short; copy it again");
  } catch (const Json::exception& error) {
    throw FormatError(where, fmt::format("is not valid JSON ({})", error.what()), "copy the file again");
  }
}

Json read_json_file(const std::filesystem::path& path, int max_depth) {
  return parse_json(read_text_file(path), path.string(), max_depth);
}

}  // namespace pq
