#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pq::report {

/// A text, or a number as people read it with its full value.
struct Cell {
  std::string text;
  std::optional<double> value = {};

  Cell(std::string of_text) : text(std::move(of_text)) {}  // NOLINT(google-explicit-constructor)
  Cell(const char* of_text) : text(of_text) {}             // NOLINT(google-explicit-constructor)
};
/// `digits` significant ones are shown; what is no number is "-".
Cell number(double value, int digits = 4);
/// `decimals` digits behind the point, zeros too: columns that are compared.
Cell fixed(double value, int decimals);
Cell whole(std::int64_t value);
/// A token's text, as visible_token shows it.
Cell token(std::string_view text);

/// Rows of numbers and texts. Columns that hold numbers alone stand to the right.
struct Table {
  std::string caption;
  std::vector<std::string> header;  ///< with the unit, where there is one: "tokens/s"
  std::vector<std::vector<Cell>> rows;
};

/// <table> with <caption>, <th scope>, every text inside of <bdi>. The first cell of a row is its header.
std::string to_html(const Table& table);
std::string to_markdown(const Table& table);
/// RFC 4180, numbers in full.
std::string to_csv(const Table& table);
/// A tabular with booktabs' rules; the caption is a comment above.
std::string to_latex(const Table& table);

}  // namespace pq::report
