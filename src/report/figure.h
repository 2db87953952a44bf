#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "report/table.h"

// Figures as plain structs, drawn as SVG. Every text may be hostile: it is escaped here and nowhere before. Values that
// are not finite, and on a logarithmic axis those of zero or less, are left out of the picture; the table has them.

namespace pq::report {

/// What stands around a picture.
struct Caption {
  std::string id;           ///< [a-z][a-z0-9-]*, unique on its page: what elements and files (ID.svg) are called
  std::string title;        ///< the finding in words
  std::string description;  ///< what is drawn, for those who see it and those who do not; may be empty
};

/// A figure that is drawn.
struct Figure {
  Caption caption;
  int width = 0;
  int height = 0;
  std::string elements;  ///< what stands inside of <svg>
  Table numbers;
};

/// <svg role="img"> with <title> and <desc>, coloured by the styles of its page.
std::string inline_svg(const Figure& figure);
/// A file of its own: with its styles, light and dark.
std::string standalone_svg(const Figure& figure);

enum class Scale { linear, log };

struct Axis {
  std::string label;  ///< "perplexity"
  std::string unit;   ///< "bits", "tokens/s"; may be empty
  Scale scale = Scale::linear;
  bool whole = false;  ///< ticks at whole numbers only: blocks, positions
  std::optional<double> from = {};
  std::optional<double> to = {};
  std::vector<std::string> categories = {};  ///< x alone: what stands at 0, 1, ... in place of numbers
};

struct Point {
  double x = 0;
  double y = 0;
  double spread_x = 0;     ///< an error bar this far to both sides; 0: none
  double spread_y = 0;     ///< and up and down
  bool marked = false;     ///< drawn larger, with its label beside it
  std::string label = {};  ///< in the tooltip and the table
};

enum class Drawing { line, points, line_and_points };

struct Series {
  std::string name;
  std::vector<Point> points;
  Drawing drawing = Drawing::line_and_points;
};

/// A line across the picture.
struct ReferenceLine {
  double y = 0;
  std::string label;
};

/// Lines over x, or points in a plane. At most 8 series: each has a colour, a dash and a shape of its own.
struct LineChart {
  Caption caption;
  Axis x;
  Axis y;
  std::vector<Series> series;
  std::vector<ReferenceLine> references = {};
};
Figure draw(const LineChart& chart);

struct BarSeries {
  std::string name;
  std::vector<double> values;        ///< one a category; NaN: none
  std::vector<double> spreads = {};  ///< error bars; empty: none
};

/// Bars that lie, so that names have room: one a category and series, beginning at zero (on a logarithmic axis at the
/// axis' beginning).
struct BarChart {
  Caption caption;
  Axis value;
  std::string category_label;           ///< the table's first column: "token"
  std::vector<std::string> categories;  ///< as they are to be read: visible_token for tokens
  std::vector<BarSeries> series;
  std::vector<ReferenceLine> references = {};  ///< at values
};
Figure draw(const BarChart& chart);

/// Rows x columns of values as colours, with the numbers in the cells where they have room.
struct HeatMap {
  Caption caption;
  std::string row_label;     ///< "block"
  std::string column_label;  ///< "linear"
  std::vector<std::string> rows;
  std::vector<std::string> columns;
  std::vector<double> values;  ///< [rows x columns], row by row; NaN: nothing there
  std::string value_label;     ///< of the colours: "relative output error"
  std::string unit;
  Scale scale = Scale::linear;
  std::optional<double> from = {};  ///< of the colours; else the values decide
  std::optional<double> to = {};
};
Figure draw(const HeatMap& map);

/// Magnitudes of activations, token x channel, as the paper's figure 2 shows them. What is larger than the picture is
/// pooled: each of its cells is the largest of those that it stands for.
struct Landscape {
  Caption caption;
  std::vector<std::string> tokens;  ///< as they are to be read: visible_token
  std::size_t channels = 0;
  std::vector<float> magnitudes;    ///< [tokens x channels], row by row, none below zero
  Scale scale = Scale::log;         ///< of the colours
  std::optional<double> from = {};  ///< beginning and end of the colours, the same in pictures that are compared;
  std::optional<double> to = {};    ///< else the values decide
  std::string value_label = "magnitude";
  std::size_t pooled = 1;  ///< how many neighbouring channels of the tensor one of these stands for
};
Figure draw(const Landscape& landscape);

struct StripMark {
  std::size_t position = 0;
  double count = 0;        ///< the height of its bar
  std::string label = {};  ///< what is there, in the tooltip and the table
};
struct StripRow {
  std::string name;  ///< "original", "behind the prefix"
  std::vector<StripMark> marks;
};

/// Where in a sequence something stands: a row of bars over the positions for each condition, one height for all.
struct PositionStrip {
  Caption caption;
  std::size_t length = 0;  ///< positions of a sequence
  std::string count_label = "outlier tokens";
  std::vector<StripRow> rows;
};
Figure draw(const PositionStrip& strip);

}  // namespace pq::report
