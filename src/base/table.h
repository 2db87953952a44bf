#pragma once

#include <string>
#include <vector>

namespace pq {

/// A small text table. Columns are as wide as their widest cell; a column whose cells are all numbers (with a unit, a
/// sign or
/// "-" for none) stands to the right, any other to the left.
class Table {
 public:
  explicit Table(std::vector<std::string> header);
  /// A shorter row is filled with empty cells; throws std::logic_error for a longer one.
  void add_row(std::vector<std::string> cells);
  /// The lines, each ending in a newline and none in a space; two spaces between columns, a rule below the header.
  std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;  // the header is the first
};

}  // namespace pq
