#include "base/table.h"

#include <algorithm>
#include <cstddef>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "base/display_width.h"

namespace pq {
namespace {

bool is_number(std::string_view cell) {
  if (cell == "-") return true;
  const std::size_t digit = cell.find_first_of("0123456789");
  return digit != std::string_view::npos && cell.substr(0, digit).find_first_not_of("+-.<") == std::string_view::npos;
}

std::string trimmed(std::string line) {
  line.erase(line.find_last_not_of(' ') + 1);
  return line;
}

}  // namespace

Table::Table(std::vector<std::string> header) { rows_.push_back(std::move(header)); }

void Table::add_row(std::vector<std::string> cells) {
  if (cells.size() > rows_.front().size()) throw std::logic_error("a table row has more cells than the header");
  cells.resize(rows_.front().size());
  rows_.push_back(std::move(cells));
}

std::string Table::text() const {
  const std::size_t columns = rows_.front().size();
  std::vector<std::size_t> widths(columns, 0);
  std::vector<bool> right(columns, rows_.size() > 1);
  for (std::size_t r = 0; r < rows_.size(); ++r) {
    for (std::size_t c = 0; c < columns; ++c) {
      widths[c] = std::max(widths[c], display_width(rows_[r][c]));
      if (r > 0 && !rows_[r][c].empty() && !is_number(rows_[r][c])) right[c] = false;
    }
  }
  std::string text;
  for (std::size_t r = 0; r < rows_.size(); ++r) {
    std::string line;
    for (std::size_t c = 0; c < columns; ++c) {
      const std::string padding(widths[c] - display_width(rows_[r][c]), ' ');
      if (c > 0) line += "  ";
      line += right[c] ? padding + rows_[r][c] : rows_[r][c] + padding;
    }
    text += trimmed(std::move(line)) + "\n";
    if (r > 0) continue;
    std::string rule;
    for (std::size_t c = 0; c < columns; ++c) rule += (c > 0 ? "  " : "") + std::string(widths[c], '-');
    text += rule + "\n";
  }
  return text;
}

}  // namespace pq
