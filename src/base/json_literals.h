#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pq {

/// A text as JSON has it where Python's `json` wrote it: NaN, Infinity and -Infinity, which Python writes and JSON does
/// not know, stand in it as numbers of a spelling that the text does not have otherwise. Views the text it was made of.
class PythonJson {
 public:
  explicit PythonJson(std::string_view text);

  /// What a parser of JSON can read.
  std::string_view text() const { return replaced_.empty() ? original_ : replaced_; }
  /// What the number stands for that the parser read as `value` from `spelling`.
  double number(double value, std::string_view spelling) const;
  /// The byte of the original text for a byte of text().
  std::size_t original_byte(std::size_t byte) const;

 private:
  std::string_view original_;
  std::string replaced_;
  std::string spelling_;                                      // with one digit behind it, which says which literal
  std::vector<std::pair<std::size_t, std::size_t>> changes_;  // bytes behind a literal, in text() and the original
};

/// A number for a message: NaN and Infinity as Python writes them, others as JSON does.
std::string number_text(double value);

}  // namespace pq
