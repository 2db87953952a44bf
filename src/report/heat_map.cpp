#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "report/colour_grid.h"
#include "report/figure.h"
#include "report/number.h"
#include "report/svg.h"

namespace pq::report {
namespace {

constexpr double width = 760;
/// Cells have tooltips up to so many.
constexpr std::size_t most_tooltips = 1500;
constexpr std::size_t most_rows = 240;
constexpr std::size_t most_columns = 340;

double row_height(std::size_t rows) {
  if (rows <= 36) return 19;
  return rows <= 80 ? 12 : std::max(3.0, std::floor(800 / static_cast<double>(rows)));
}

/// Every which name is written, so that they do not meet.
std::size_t stride(double cell, double name) {
  return std::max<std::size_t>(1, static_cast<std::size_t>(std::ceil(name / cell)));
}

/// Of a number on that colour. The middle one takes dark ink in the light and in the dark.
std::string_view number_class(int level) { return level < 6 ? "q dk" : level == 6 ? "q md" : "q lt"; }

Table numbers_of(const HeatMap& map) {
  Table table{map.value_label + (map.unit.empty() ? "" : " (" + map.unit + ")"), {map.row_label}, {}};
  table.header.insert(table.header.end(), map.columns.begin(), map.columns.end());
  for (std::size_t r = 0; r < map.rows.size(); ++r) {
    std::vector<Cell> cells{map.rows[r]};
    for (std::size_t c = 0; c < map.columns.size(); ++c)
      cells.push_back(number(map.values[r * map.columns.size() + c], 3));
    table.rows.push_back(std::move(cells));
  }
  return table;
}

}  // namespace

Figure draw(const HeatMap& map) {
  if (map.values.size() != map.rows.size() * map.columns.size())
    throw std::logic_error("a heat map of other sizes than its values");
  const ColourScale scale = colour_scale(map.scale, map.values, map.from, map.to);
  const bool small = map.rows.size() <= most_rows && map.columns.size() <= most_columns;
  const Grid grid = pooled({map.rows.size(), map.columns.size(), map.values}, most_rows, most_columns);
  Axis value;
  value.label = map.value_label;
  value.unit = map.unit;
  value.scale = map.scale;
  std::string body = colour_legend(scale, axis_title(value), 10, 4);

  double names = text_width(map.row_label, 13);
  for (const std::string& row : map.rows) names = std::max(names, std::min(150.0, text_width(row, 11.5)));
  const double left = 10 + names + 8;
  const double top = ColourLegend::height + 22;
  const double cell = std::min(
      92.0, std::floor(10 * (width - 12 - left) / static_cast<double>(std::max<std::size_t>(1, grid.columns))) / 10);
  const double height = row_height(grid.rows);
  const double right = left + cell * static_cast<double>(grid.columns);
  const double bottom = top + height * static_cast<double>(grid.rows);
  body += text_at(left - 7, top - 8, "n", Anchor::end, map.row_label);
  if (!map.column_label.empty()) body += text_at(left, top - 8, "n", Anchor::start, map.column_label);
  body += rectangle(left, top, right - left, bottom - top, "x");

  const std::size_t pooled_rows = (map.rows.size() + grid.rows - 1) / std::max<std::size_t>(1, grid.rows);
  for (std::size_t r = 0; r < grid.rows; r += stride(height, 12)) {
    body += text_at(left - 7, top + (static_cast<double>(r) + 0.5) * height + 4, "t", Anchor::end,
                    fitted(map.rows[r * pooled_rows], 150, 11.5));
  }
  if (small && map.values.size() <= most_tooltips) {
    const bool with_numbers = cell >= 38 && height >= 14;
    for (std::size_t r = 0; r < grid.rows; ++r) {
      for (std::size_t c = 0; c < grid.columns; ++c) {
        const std::optional<int> level = scale.level(grid.at(r, c));
        if (!level) continue;
        const double x = left + cell * static_cast<double>(c);
        const double y = top + height * static_cast<double>(r);
        body +=
            with_tooltip(rectangle(x, y, cell, height, fmt::format("c{}", *level)),
                         {fmt::format("{} {}, {}", map.row_label, map.rows[r], map.columns[c]),
                          fmt::format("{}{}{}", short_number(grid.at(r, c)), map.unit.empty() ? "" : " ", map.unit)});
        if (!with_numbers) continue;
        body += text_at(x + cell / 2, y + height / 2 + 4, number_class(*level), Anchor::middle,
                        short_number(grid.at(r, c), 2));
      }
    }
  } else {
    body += colour_runs(grid, scale, left, top, cell, height);
  }
  const std::size_t pooled_columns = (map.columns.size() + grid.columns - 1) / std::max<std::size_t>(1, grid.columns);
  std::vector<std::string> column_names;
  std::vector<double> at;
  for (std::size_t c = 0; c < grid.columns; c += stride(cell, 18)) {
    column_names.push_back(map.columns[c * pooled_columns]);
    at.push_back(left + (static_cast<double>(c) + 0.5) * cell);
  }
  const NamesBelow below = names_below(column_names, at, bottom + 3, cell * static_cast<double>(stride(cell, 18)));
  body += below.elements;
  return {map.caption, static_cast<int>(width), static_cast<int>(std::ceil(bottom + 10 + below.height)),
          std::move(body), numbers_of(map)};
}

}  // namespace pq::report
