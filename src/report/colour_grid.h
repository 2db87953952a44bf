#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "report/axis.h"

namespace pq::report {

/// Classes c0 to c11 and k0 to k11 of figure.css.
inline constexpr int colour_levels = 12;

/// Which colour a value has.
struct ColourScale {
  AxisSpan span;

  /// 0 to 11, or nothing for what has no colour; what lies beyond the ends has the colour of the end.
  std::optional<int> level(double value) const;
};
/// For these values; `from` and `to` set its ends.
ColourScale colour_scale(Scale scale, std::span<const double> values, std::optional<double> from,
                         std::optional<double> to);

/// The colours with their values, `height` pixels high, from (left, top) on.
struct ColourLegend {
  static constexpr double height = 44;
};
std::string colour_legend(const ColourScale& scale, std::string_view title, double left, double top);

/// Rows x columns of values, row by row.
struct Grid {
  std::size_t rows = 0;
  std::size_t columns = 0;
  std::vector<double> values;

  double at(std::size_t row, std::size_t column) const { return values[row * columns + column]; }
};
/// A grid of at most that many rows and columns: each cell is the largest of those that it stands for (not a number
/// where none of them is one).
Grid pooled(Grid grid, std::size_t most_rows, std::size_t most_columns);

/// The cells as coloured strokes, a path for each colour: small, without tooltips.
std::string colour_runs(const Grid& grid, const ColourScale& scale, double left, double top, double cell_width,
                        double cell_height);

}  // namespace pq::report
