#include "report/colour_grid.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "report/number.h"
#include "report/svg.h"

namespace pq::report {

std::optional<int> ColourScale::level(double value) const {
  if (std::isnan(value)) return std::nullopt;
  if (!has_place(value, span.scale)) return value > 0 ? colour_levels - 1 : 0;
  return std::clamp(static_cast<int>(std::floor(span.share(value) * colour_levels)), 0, colour_levels - 1);
}

ColourScale colour_scale(Scale scale, std::span<const double> values, std::optional<double> from,
                         std::optional<double> to) {
  ValueRange range;
  for (const double value : values) {
    if (has_place(value, scale)) range.take(value);
  }
  Axis axis;
  axis.scale = scale;
  axis.from = from;
  axis.to = to;
  return {axis_span(axis, range, 5)};
}

std::string colour_legend(const ColourScale& scale, std::string_view title, double left, double top) {
  constexpr double swatch = 22;
  const double begin = left + text_width(title) * 1.08 + 14;
  std::string out = text_at(left, top + 14, "n", Anchor::start, title);
  for (int i = 0; i < colour_levels; ++i)
    out += rectangle(begin + swatch * i, top + 2, swatch, 15, fmt::format("c{}", i));
  const PlacedAxis axis{scale.span, begin, begin + swatch * colour_levels};
  double free_from = -std::numeric_limits<double>::infinity();
  for (const Tick& tick : scale.span.ticks) {
    const double x = axis.at(tick.value);
    const double half = text_width(tick.label, 11.5) / 2;
    if (x - half < free_from) continue;
    free_from = x + half + 6;
    out += line_from(x, top + 17, x, top + 21, "a") + text_at(x, top + 33, "t", Anchor::middle, tick.label);
  }
  return out;
}

Grid pooled(Grid grid, std::size_t most_rows, std::size_t most_columns) {
  const auto factor = [](std::size_t count, std::size_t most) {
    return (count + most - 1) / std::max<std::size_t>(1, most);
  };
  const std::size_t down = std::max<std::size_t>(1, factor(grid.rows, most_rows));
  const std::size_t across = std::max<std::size_t>(1, factor(grid.columns, most_columns));
  if (down == 1 && across == 1) return grid;
  Grid small{(grid.rows + down - 1) / down, (grid.columns + across - 1) / across, {}};
  small.values.assign(small.rows * small.columns, std::nan(""));
  for (std::size_t r = 0; r < grid.rows; ++r) {
    for (std::size_t c = 0; c < grid.columns; ++c) {
      double& cell = small.values[r / down * small.columns + c / across];
      const double value = grid.at(r, c);
      if (std::isnan(cell) || value > cell) cell = std::isnan(value) ? cell : value;
    }
  }
  return small;
}

std::string colour_runs(const Grid& grid, const ColourScale& scale, double left, double top, double cell_width,
                        double cell_height) {
  std::array<std::string, colour_levels> paths;
  for (std::size_t r = 0; r < grid.rows; ++r) {
    std::array<std::size_t, colour_levels> pen{};  // where the colour's path stands in this row
    std::array<bool, colour_levels> begun{};
    for (std::size_t c = 0; c < grid.columns;) {
      const std::optional<int> level = scale.level(grid.at(r, c));
      std::size_t end = c + 1;
      while (end < grid.columns && scale.level(grid.at(r, end)) == level) ++end;
      if (level) {
        const auto i = static_cast<std::size_t>(*level);
        paths[i] += begun[i] ? fmt::format("m{} 0h{}", c - pen[i], end - c) : fmt::format("M{} {}h{}", c, r, end - c);
        pen[i] = end;
        begun[i] = true;
      }
      c = end;
    }
  }
  // Strokes of a unit's height along the middle of each row, a little more so that no gap shows between rows.
  std::string out = fmt::format("<g stroke-width=\"1.03\" transform=\"translate({} {}) scale({:.4g} {:.4g})\">",
                                coordinate(left), coordinate(top + cell_height / 2), cell_width, cell_height);
  for (std::size_t i = 0; i < paths.size(); ++i) {
    if (!paths[i].empty()) out += fmt::format("<path class=\"k{}\" d=\"{}\"/>", i, paths[i]);
  }
  return out + "</g>";
}

}  // namespace pq::report
