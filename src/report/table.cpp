#include "report/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "report/escape.h"
#include "report/number.h"

namespace pq::report {
namespace {

using Escape = std::function<std::string(std::string_view)>;

bool is_number(const Cell& cell) { return cell.value.has_value() || cell.text == "-"; }

/// Column by column: whether it holds numbers alone.
std::vector<bool> number_columns(const Table& table) {
  std::vector<bool> numbers;
  for (std::size_t c = 0; c < table.header.size(); ++c) {
    bool any = false;
    const bool all = std::all_of(table.rows.begin(), table.rows.end(), [&](const std::vector<Cell>& row) {
      const bool empty = c >= row.size() || row[c].text.empty();
      any |= !empty;
      return empty || is_number(row[c]);
    });
    numbers.push_back(all && any);
  }
  return numbers;
}

/// Rows of as many cells as the header has.
std::string line(const std::vector<Cell>& row, std::size_t columns, std::string_view separator, const Escape& escape) {
  std::string out;
  for (std::size_t c = 0; c < columns; ++c) {
    if (c > 0) out += separator;
    if (c < row.size()) out += escape(row[c].text);
  }
  return out;
}

std::vector<Cell> header_cells(const Table& table) { return {table.header.begin(), table.header.end()}; }

}  // namespace

Cell number(double value, int digits) {
  Cell cell(short_number(value, digits));
  if (!std::isnan(value)) cell.value = value;
  return cell;
}

Cell fixed(double value, int decimals) {
  Cell cell(std::isfinite(value) ? fmt::format("{:.{}f}", value, decimals) : short_number(value));
  if (!std::isnan(value)) cell.value = value;
  return cell;
}

Cell whole(std::int64_t value) {
  Cell cell(std::to_string(value));
  cell.value = static_cast<double>(value);
  return cell;
}

Cell token(std::string_view text) { return {visible_token(text)}; }

std::string to_html(const Table& table) {
  const std::vector<bool> numbers = number_columns(table);
  const auto text = [](std::string_view cell) { return "<bdi>" + escape_markup(cell) + "</bdi>"; };
  // The class stands at the column's head alone, and once for the whole column where all are numbers.
  std::string out = "<table>";
  if (!table.caption.empty()) out += "<caption>" + text(table.caption) + "</caption>";
  out += "<thead><tr>";
  for (std::size_t c = 0; c < table.header.size(); ++c)
    out += fmt::format("<th scope=\"col\"{}>{}</th>", numbers[c] ? " class=\"n\"" : "", text(table.header[c]));
  out += "</tr></thead><tbody>\n";
  for (const std::vector<Cell>& row : table.rows) {
    out += "<tr>";
    for (std::size_t c = 0; c < table.header.size(); ++c) {
      const std::string content = c >= row.size()     ? ""
                                  : is_number(row[c]) ? escape_markup(row[c].text)
                                                      : text(row[c].text);
      const std::string_view number_class = numbers[c] ? " class=\"n\"" : "";
      out += c == 0 ? fmt::format("<th scope=\"row\"{}>{}</th>", number_class, content)
                    : fmt::format("<td{}>{}</td>", number_class, content);
    }
    out += "</tr>\n";
  }
  return out + "</tbody></table>\n";
}

std::string to_markdown(const Table& table) {
  const std::size_t columns = table.header.size();
  const std::vector<bool> numbers = number_columns(table);
  std::string out = "| " + line(header_cells(table), columns, " | ", escape_markdown) + " |\n|";
  for (std::size_t c = 0; c < columns; ++c) out += numbers[c] ? "---:|" : "---|";
  out += "\n";
  for (const std::vector<Cell>& row : table.rows) {
    out += "|";
    for (std::size_t c = 0; c < columns; ++c) {
      if (c < row.size()) out += " " + (is_number(row[c]) ? row[c].text : escape_markdown(row[c].text));
      out += " |";
    }
    out += "\n";
  }
  return out;
}

std::string to_csv(const Table& table) {
  std::string out = line(header_cells(table), table.header.size(), ",", escape_csv) + "\r\n";
  for (const std::vector<Cell>& row : table.rows) {
    for (std::size_t c = 0; c < table.header.size(); ++c) {
      if (c > 0) out += ",";
      if (c >= row.size() || row[c].text == "-") continue;
      out += row[c].value ? fmt::format("{}", *row[c].value) : escape_csv(row[c].text);
    }
    out += "\r\n";
  }
  return out;
}

std::string to_latex(const Table& table) {
  const std::size_t columns = table.header.size();
  std::string out = table.caption.empty() ? "" : "% " + escape_latex(table.caption) + "\n";
  out += "\\begin{tabular}{";
  for (const bool numbers : number_columns(table)) out += numbers ? 'r' : 'l';
  out += "}\n\\toprule\n" + line(header_cells(table), columns, " & ", escape_latex) + " \\\\\n\\midrule\n";
  for (const std::vector<Cell>& row : table.rows) {
    const auto cell = [](std::string_view text) { return text.starts_with('[') ? "{}" : ""; };  // no option of "\\"
    out += (row.empty() ? "" : cell(row.front().text)) + line(row, columns, " & ", escape_latex) + " \\\\\n";
  }
  return out + "\\bottomrule\n\\end{tabular}\n";
}

}  // namespace pq::report
