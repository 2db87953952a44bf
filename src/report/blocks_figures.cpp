#include "report/blocks_figures.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "report/number.h"

namespace pq::report {
namespace {

std::vector<std::string> block_names(std::size_t count) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < count; ++i) names.push_back(std::to_string(i));
  return names;
}

}  // namespace

HeatMap blocks_by(const std::vector<std::vector<double>>& values, std::vector<std::string> columns,
                  std::string column_label, std::string value_label) {
  HeatMap map;
  map.row_label = "block";
  map.column_label = std::move(column_label);
  map.rows = block_names(values.size());
  map.columns = std::move(columns);
  for (const std::vector<double>& row : values) map.values.insert(map.values.end(), row.begin(), row.end());
  map.value_label = std::move(value_label);
  map.scale = Scale::log;
  return map;
}

bool any_number(const std::vector<std::vector<double>>& values) {
  return std::any_of(values.begin(), values.end(), [](const auto& row) {
    return std::any_of(row.begin(), row.end(), [](double value) { return std::isfinite(value); });
  });
}

std::vector<Point> over_blocks(const std::vector<double>& values) {
  std::vector<Point> points;
  for (std::size_t i = 0; i < values.size(); ++i) points.push_back({static_cast<double>(i), values[i]});
  return points;
}

Axis block_axis() {
  Axis axis{"block", ""};
  axis.whole = true;
  return axis;
}

void add_linear_map(Section& section, const char* id, const std::vector<std::vector<double>>& values,
                    const std::vector<std::string>& linears, const char* what, const char* description) {
  if (!any_number(values)) return;
  HeatMap map = blocks_by(values, linears, "linear", what);
  const auto largest = std::max_element(map.values.begin(), map.values.end(), [](double a, double b) {
    return std::isfinite(b) && (!std::isfinite(a) || a < b);
  });
  const auto place = static_cast<std::size_t>(largest - map.values.begin());
  map.caption = {id,
                 fmt::format("Block {}'s {} has the largest {}: {}", place / linears.size(),
                             linears[place % linears.size()], what, short_number(*largest, 3)),
                 description};
  section.items.emplace_back(draw(map));
}

}  // namespace pq::report
