#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "report/axis.h"
#include "report/figure.h"
#include "report/number.h"
#include "report/svg.h"

namespace pq::report {
namespace {

constexpr double width = 760;
constexpr double plot_height = 290;
constexpr std::size_t most_series = 8;
/// More points than these on one chart have no tooltips of their own, but for those that are marked.
constexpr std::size_t most_tooltips = 300;
/// Longer series stand in the table with their marked points and a few figures.
constexpr std::size_t longest_listed = 100;

struct Place {
  double x, y;
};

/// One chart on its way to a picture.
class LinePicture {
 public:
  explicit LinePicture(const LineChart& chart) : chart_(chart) {
    if (chart.series.size() > most_series) throw std::logic_error("a chart of more than 8 series");
  }

  Figure draw() {
    double top = 6;
    if (chart_.series.size() > 1) body_ += legend(legend_entries(), 10, width - 10, top);
    place_axes(top);
    draw_axes();
    LabelRoom room({left_, top_ - 6, width - 2, bottom_});
    for (std::size_t i = 0; i < chart_.series.size(); ++i) draw_lines(i);
    for (const ReferenceLine& line : chart_.references) draw_reference(line);
    for (std::size_t i = 0; i < chart_.series.size(); ++i) draw_points(i, room);
    for (const ReferenceLine& line : chart_.references) name_reference(line, room);
    for (std::size_t i = 0; i < chart_.series.size(); ++i) draw_labels(i, room);
    const int height = static_cast<int>(std::ceil(below_));
    return {chart_.caption, static_cast<int>(width), height, std::move(body_), numbers()};
  }

 private:
  bool has_categories() const { return !chart_.x.categories.empty(); }
  bool has_place_for(const Point& point) const {
    return x_.span.contains(point.x) && y_.span.contains(point.y) && std::isfinite(point.x);
  }
  Place place(const Point& point) const { return {x_.at(point.x), y_.at(point.y)}; }

  std::vector<LegendEntry> legend_entries() const {
    std::vector<LegendEntry> entries;
    for (std::size_t i = 0; i < chart_.series.size(); ++i) {
      const Series& series = chart_.series[i];
      entries.push_back(
          {static_cast<int>(i) + 1, series.name, series.drawing != Drawing::points, series.drawing != Drawing::line});
    }
    return entries;
  }

  void place_axes(double top) {
    ValueRange xs;
    ValueRange ys;
    for (const Series& series : chart_.series) {
      for (const Point& point : series.points) {
        if (!has_place(point.x, chart_.x.scale) || !has_place(point.y, chart_.y.scale)) continue;
        for (const double side : {-1.0, 1.0}) {
          if (has_place(point.x + side * point.spread_x, chart_.x.scale)) xs.take(point.x + side * point.spread_x);
          if (has_place(point.y + side * point.spread_y, chart_.y.scale)) ys.take(point.y + side * point.spread_y);
        }
        points_ += 1;
      }
    }
    for (const ReferenceLine& line : chart_.references) {
      if (has_place(line.y, chart_.y.scale)) ys.take(line.y);
    }
    if (has_categories()) {
      x_.span.from = -0.5;
      x_.span.to = static_cast<double>(chart_.x.categories.size()) - 0.5;
    } else {
      x_.span = axis_span(chart_.x, xs, 9);
    }
    y_.span = axis_span(chart_.y, ys, 6, Zero::where_near);
    double widest = 0;
    for (const Tick& tick : y_.span.ticks) widest = std::max(widest, text_width(tick.label, 11.5));
    left_ = 10 + widest + 8;
    right_ = width - 24;
    top_ = top + 26;  // the name of the axis stands above it
    bottom_ = top_ + plot_height;
    const double inset = has_categories() ? 0 : 8;
    x_.begin = left_ + inset;
    x_.end = right_ - inset;
    y_.begin = bottom_;
    y_.end = top_;
  }

  void draw_axes() {
    body_ += text_at(10, top_ - 12, "n", Anchor::start, axis_title(chart_.y));
    std::string grid;
    for (const Tick& tick : y_.span.ticks) {
      const double y = y_.at(tick.value);
      grid += fmt::format("M{} {}H{}", coordinate(left_), coordinate(y), coordinate(right_));
      body_ += text_at(left_ - 7, y + 4, "t", Anchor::end, tick.label);
    }
    body_ += fmt::format("<path class=\"g\" d=\"{}\"/>", grid);
    body_ += line_from(left_, bottom_, right_, bottom_, "a");
    double below = bottom_ + 20;
    if (has_categories()) {
      std::vector<double> at;
      for (std::size_t i = 0; i < chart_.x.categories.size(); ++i) at.push_back(x_.at(static_cast<double>(i)));
      const double slot = (right_ - left_) / static_cast<double>(at.size());
      const NamesBelow names = names_below(chart_.x.categories, at, bottom_ + 3, slot);
      body_ += names.elements;
      below = bottom_ + 3 + names.height;
    } else {
      std::string ticks;
      for (const Tick& tick : x_.span.ticks) {
        const double x = x_.at(tick.value);
        ticks += fmt::format("M{} {}v4", coordinate(x), coordinate(bottom_));
        body_ += text_at(x, bottom_ + 17, "t", Anchor::middle, tick.label);
      }
      body_ += fmt::format("<path class=\"a\" d=\"{}\"/>", ticks);
    }
    const std::string title = axis_title(chart_.x);
    if (!title.empty()) body_ += text_at((left_ + right_) / 2, below + 17, "n", Anchor::middle, title);
    below_ = below + (title.empty() ? 6 : 26);
  }

  /// The line through the points, broken where one has no place. Of many points on one pixel, the first, the least, the
  /// largest and the last are kept: the picture is the same.
  void draw_lines(std::size_t index) {
    const Series& series = chart_.series[index];
    if (series.drawing == Drawing::points) return;
    std::string d;
    std::vector<Place> pixel;
    bool begun = false;
    const auto flush = [&] {
      if (pixel.size() > 4) {
        const auto [least, largest] =
            std::minmax_element(pixel.begin(), pixel.end(), [](Place a, Place b) { return a.y < b.y; });
        const bool falls = least < largest;
        pixel = {pixel.front(), falls ? *least : *largest, falls ? *largest : *least, pixel.back()};
      }
      for (const Place& p : pixel) {
        d += fmt::format("{}{} {}", begun ? "L" : "M", coordinate(p.x), coordinate(p.y));
        begun = true;
      }
      pixel.clear();
    };
    for (const Point& point : series.points) {
      if (!has_place_for(point)) {
        flush();
        begun = false;
        continue;
      }
      const Place p = place(point);
      if (!pixel.empty() && std::fabs(p.x - pixel.front().x) >= 1) flush();
      pixel.push_back(p);
    }
    flush();
    if (!d.empty()) body_ += fmt::format("<path class=\"l{}\" d=\"{}\"/>", index + 1, d);
  }

  void draw_reference(const ReferenceLine& line) {
    if (y_.span.contains(line.y)) body_ += line_from(left_, y_.at(line.y), right_, y_.at(line.y), "r");
  }

  /// Its name above or below the line, where it covers no point.
  void name_reference(const ReferenceLine& line, LabelRoom& room) {
    if (!y_.span.contains(line.y)) return;
    const double y = y_.at(line.y);
    const std::string label = fmt::format("{}: {}", line.label, short_number(line.y));
    const double size = text_width(label);
    for (const double share : {1.0, 0.0, 0.75, 0.5, 0.25}) {
      for (const double baseline : {y - 5, y + 14}) {
        const double x = left_ + 4 + share * (right_ - left_ - 8 - size);
        const Box box{x - 3, baseline - 12, x + size + 3, baseline + 3};
        if (box.top < top_ - 6 || box.bottom > bottom_ || !room.is_free(box)) continue;
        room.occupy(box);
        body_ += text_at(x, baseline, "b", Anchor::start, label);
        return;
      }
    }
    body_ += text_at(right_ - 2, y - 5, "b", Anchor::end, label);
  }

  std::vector<std::string> told(const Series& series, const Point& point) const {
    const auto with_spread = [](double value, double spread) {
      return short_number(value) + (spread > 0 ? " ± " + short_number(spread, 2) : "");
    };
    const Cell x = x_cell(point.x);
    return {chart_.series.size() > 1 ? series.name : "", point.label,
            fmt::format("{}: {}", chart_.x.label.empty() ? "at" : chart_.x.label,
                        x.value ? with_spread(point.x, point.spread_x) : x.text),
            fmt::format("{}: {}{}{}", chart_.y.label, with_spread(point.y, point.spread_y),
                        chart_.y.unit.empty() ? "" : " ", chart_.y.unit)};
  }

  std::string error_bars(std::size_t index, const Point& point, LabelRoom& room) const {
    const Place p = place(point);
    const auto bounded = [](const PlacedAxis& axis, double value) {
      const double to = std::clamp(axis.span.scale == Scale::log && value <= 0 ? axis.span.from : value, axis.span.from,
                                   axis.span.to);
      return axis.at(to);
    };
    std::string d;
    if (point.spread_y > 0) {
      const double low = bounded(y_, point.y - point.spread_y);
      const double high = bounded(y_, point.y + point.spread_y);
      room.occupy({p.x - 4, high, p.x + 4, low});
      d += fmt::format("M{0} {2}V{3}M{1} {2}h8M{1} {3}h8", coordinate(p.x), coordinate(p.x - 4), coordinate(low),
                       coordinate(high));
    }
    if (point.spread_x > 0) {
      const double low = bounded(x_, point.x - point.spread_x);
      const double high = bounded(x_, point.x + point.spread_x);
      room.occupy({low, p.y - 4, high, p.y + 4});
      d += fmt::format("M{2} {0}H{3}M{2} {1}v8M{3} {1}v8", coordinate(p.y), coordinate(p.y - 4), coordinate(low),
                       coordinate(high));
    }
    return d.empty() ? d : fmt::format("<path class=\"w o{}\" d=\"{}\"/>", index + 1, d);
  }

  void draw_points(std::size_t index, LabelRoom& room) {
    const Series& series = chart_.series[index];
    for (const Point& point : series.points) {
      if (!has_place_for(point)) continue;
      body_ += error_bars(index, point, room);
      if (series.drawing == Drawing::line && !point.marked) continue;
      const Place p = place(point);
      const double size = point.marked ? 10 : points_ > most_tooltips ? 5 : 7;
      std::string mark = marker(static_cast<int>(index) + 1, p.x, p.y, size);
      const bool tells = point.marked || points_ <= most_tooltips;
      body_ += tells ? with_tooltip(std::move(mark), told(series, point)) : mark;
      room.occupy({p.x - size / 2, p.y - size / 2, p.x + size / 2, p.y + size / 2});
    }
  }

  void draw_labels(std::size_t index, LabelRoom& room) {
    for (const Point& point : chart_.series[index].points) {
      if (!point.marked || point.label.empty() || !has_place_for(point)) continue;
      const Place p = place(point);
      body_ += room.place(p.x, p.y, fitted(point.label, 200));
    }
  }

  bool has_spread(double Point::*spread) const {
    for (const Series& series : chart_.series) {
      for (const Point& point : series.points) {
        if (point.*spread > 0) return true;
      }
    }
    return false;
  }

  /// Lines over the same x stand beside each other, a row for each x; what has labels or spreads, a row for each point.
  Table numbers() const {
    bool side_by_side = !has_spread(&Point::spread_x) && !has_spread(&Point::spread_y);
    std::size_t longest = 0;
    for (const Series& series : chart_.series) {
      longest = std::max(longest, series.points.size());
      side_by_side &= std::none_of(series.points.begin(), series.points.end(),
                                   [](const Point& point) { return !point.label.empty(); });
    }
    if (longest > longest_listed) return summary();
    return side_by_side ? row_for_each_x() : row_for_each_point();
  }

  Cell x_cell(double x) const {
    const auto index = static_cast<std::size_t>(std::max(0.0, x));
    return index < chart_.x.categories.size() ? Cell(chart_.x.categories[index]) : number(x);
  }
  static std::string with_unit(const Axis& axis) {
    return axis.unit.empty() ? axis.label : fmt::format("{} ({})", axis.label, axis.unit);
  }
  std::string x_name() const { return chart_.x.label.empty() ? "at" : with_unit(chart_.x); }

  Table row_for_each_x() const {
    Table table{with_unit(chart_.y), {x_name()}, {}};
    std::map<double, std::vector<double>> rows;
    for (std::size_t s = 0; s < chart_.series.size(); ++s) {
      table.header.push_back(chart_.series[s].name);
      for (const Point& point : chart_.series[s].points) {
        if (std::isnan(point.x)) continue;
        auto& row = rows[point.x];
        row.resize(chart_.series.size(), std::nan(""));
        row[s] = point.y;
      }
    }
    for (const auto& [x, values] : rows) {
      std::vector<Cell> cells{x_cell(x)};
      for (const double value : values) cells.push_back(number(value));
      table.rows.push_back(std::move(cells));
    }
    return table;
  }

  Table row_for_each_point() const {
    const bool spread_x = has_spread(&Point::spread_x);
    const bool spread_y = has_spread(&Point::spread_y);
    Table table{"", {"series", "point", x_name()}, {}};
    if (spread_x) table.header.emplace_back("±");
    table.header.push_back(with_unit(chart_.y));
    if (spread_y) table.header.emplace_back("±");
    for (const Series& series : chart_.series) {
      for (const Point& point : series.points) {
        std::vector<Cell> cells{series.name, point.label, x_cell(point.x)};
        if (spread_x) cells.push_back(number(point.spread_x, 2));
        cells.push_back(number(point.y));
        if (spread_y) cells.push_back(number(point.spread_y, 2));
        table.rows.push_back(std::move(cells));
      }
    }
    return table;
  }

  Table summary() const {
    Table table{with_unit(chart_.y), {"series", "what", x_name(), "value"}, {}};
    for (const Series& series : chart_.series) {
      std::vector<const Point*> sorted;
      for (const Point& point : series.points) {
        if (std::isfinite(point.y)) sorted.push_back(&point);
      }
      table.rows.push_back({series.name, "points", "", whole(static_cast<std::int64_t>(series.points.size()))});
      if (sorted.empty()) continue;
      std::sort(sorted.begin(), sorted.end(), [](const Point* a, const Point* b) { return a->y < b->y; });
      table.rows.push_back({series.name, "least", x_cell(sorted.front()->x), number(sorted.front()->y)});
      table.rows.push_back({series.name, "median", "", number(sorted[(sorted.size() - 1) / 2]->y)});
      table.rows.push_back({series.name, "largest", x_cell(sorted.back()->x), number(sorted.back()->y)});
      for (const Point& point : series.points) {
        if (point.marked) table.rows.push_back({series.name, point.label, x_cell(point.x), number(point.y)});
      }
    }
    return table;
  }

  const LineChart& chart_;
  std::string body_;
  std::size_t points_ = 0;
  PlacedAxis x_;
  PlacedAxis y_;
  double left_ = 0, right_ = 0, top_ = 0, bottom_ = 0, below_ = 0;
};

}  // namespace

Figure draw(const LineChart& chart) { return LinePicture(chart).draw(); }

}  // namespace pq::report
