#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace pq {

/// Looks for stop strings in a text that comes in pieces. The text before the one that ends first is shown (of several
/// that end at one place the longest counts); it and what follows are not.
class StopStrings {
 public:
  /// Throws InputError for an empty stop string.
  explicit StopStrings(std::vector<std::string> strings);

  /// What can be shown now: all but the longest end that may be the start of a stop string. Empty once stopped().
  std::string push(std::string_view piece);
  /// What was held back when the text ends without a stop string. Empty once stopped().
  std::string finish();

  /// Whether a stop string was met.
  bool stopped() const noexcept { return !met_.empty(); }
  /// The one that was met; empty without one.
  const std::string& met() const noexcept { return met_; }

 private:
  std::vector<std::string> strings_;
  std::string held_;
  std::string met_;
};

}  // namespace pq
