#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "text/regex.h"
#include "tokenizer/json_fields.h"

namespace pq {

/// Stops a tokenizer.json whose steps make a short text very long: a text may grow to sixteen times its size plus 1
/// MiB. (The largest growth of an honest file is that of NFKC, eleven times.)
class GrowthLimit {
 public:
  GrowthLimit(std::size_t input_bytes, std::string_view where);
  /// Throws UnsupportedError when `bytes` is more than allowed.
  void check(std::size_t bytes) const;
  /// Raises the limit as more input arrives.
  void add_input(std::size_t bytes);

 private:
  std::size_t allowed_;
  std::string where_;
};

/// What a Split or a Replace looks for: {"String": ".."} or {"Regex": ".."}.
class Pattern {
 public:
  /// Reads the field "pattern". Throws FormatError, UnsupportedError.
  explicit Pattern(const JsonFields& owner);
  /// See Regex::find_all.
  void find_all(std::string_view text, std::vector<Slice>& slices) const;
  /// Whether it is one literal character, which can never lie across two pieces of a text.
  bool is_one_character() const;

 private:
  std::variant<std::string, Regex> pattern_;
};

/// See Regex::find_all, for a non-empty literal.
void find_literal(std::string_view literal, std::string_view text, std::vector<Slice>& slices);
/// `text` with every match among `slices` replaced by `content`.
std::string replace_slices(std::string_view text, const std::vector<Slice>& slices, std::string_view content,
                           const GrowthLimit& limit);

}  // namespace pq
