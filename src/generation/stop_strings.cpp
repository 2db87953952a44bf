#include "generation/stop_strings.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace pq {

StopStrings::StopStrings(std::vector<std::string> strings) : strings_(std::move(strings)) {
  for (const std::string& string : strings_) {
    if (string.empty()) throw InputError("--stop", "a stop string is empty", "leave it out");
  }
}

std::string StopStrings::push(std::string_view piece) {
  if (stopped()) return {};
  held_ += piece;
  std::size_t end = std::string::npos;
  for (const std::string& string : strings_) {
    const std::size_t at = held_.find(string);
    if (at == std::string::npos) continue;
    const std::size_t this_end = at + string.size();
    if (this_end > end || (this_end == end && string.size() <= met_.size())) continue;
    end = this_end;
    met_ = string;
  }
  if (stopped()) {
    held_.resize(end - met_.size());
    return std::exchange(held_, {});
  }
  std::size_t kept = 0;  // length of the longest end that starts a stop string
  for (const std::string& string : strings_) {
    for (std::size_t size = std::min(string.size() - 1, held_.size()); size > kept; --size) {
      if (std::string_view(held_).ends_with(std::string_view(string).substr(0, size))) kept = size;
    }
  }
  std::string shown = held_.substr(0, held_.size() - kept);
  held_.erase(0, shown.size());
  return shown;
}

std::string StopStrings::finish() { return stopped() ? std::string() : std::exchange(held_, {}); }

}  // namespace pq
