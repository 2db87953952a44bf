#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "report/axis.h"
#include "report/figure.h"
#include "report/number.h"
#include "report/svg.h"

namespace pq::report {
namespace {

constexpr double width = 760;
constexpr std::size_t most_series = 8;

double spread_of(const BarSeries& series, std::size_t category) {
  return category < series.spreads.size() ? series.spreads[category] : 0;
}

ValueRange range_of(const BarChart& chart) {
  ValueRange range;
  for (const BarSeries& series : chart.series) {
    for (std::size_t c = 0; c < series.values.size(); ++c) {
      for (const double value : {series.values[c] - spread_of(series, c), series.values[c] + spread_of(series, c)}) {
        if (has_place(value, chart.value.scale)) range.take(value);
      }
    }
  }
  for (const ReferenceLine& line : chart.references) {
    if (has_place(line.y, chart.value.scale)) range.take(line.y);
  }
  if (chart.value.scale == Scale::linear) range.take(0);
  return range;
}

Table numbers_of(const BarChart& chart) {
  Table table{
      chart.value.label + (chart.value.unit.empty() ? "" : " (" + chart.value.unit + ")"), {chart.category_label}, {}};
  for (const BarSeries& series : chart.series) {
    table.header.push_back(series.name);
    if (!series.spreads.empty()) table.header.emplace_back("±");
  }
  for (std::size_t c = 0; c < chart.categories.size(); ++c) {
    std::vector<Cell> cells{chart.categories[c]};
    for (const BarSeries& series : chart.series) {
      cells.push_back(number(series.values[c]));
      if (!series.spreads.empty()) cells.push_back(number(spread_of(series, c), 2));
    }
    table.rows.push_back(std::move(cells));
  }
  return table;
}

}  // namespace

Figure draw(const BarChart& chart) {
  if (chart.series.size() > most_series) throw std::logic_error("a chart of more than 8 series");
  for (const BarSeries& series : chart.series) {
    if (series.values.size() != chart.categories.size())
      throw std::logic_error("a bar chart of other sizes than its values");
  }
  std::string body;
  double top = 6;
  if (chart.series.size() > 1) {
    std::vector<LegendEntry> entries;
    for (std::size_t s = 0; s < chart.series.size(); ++s)
      entries.push_back({static_cast<int>(s) + 1, chart.series[s].name, false, true});
    body += legend(entries, 10, width - 10, top);
  }
  double names = 40;
  for (const std::string& category : chart.categories) names = std::max(names, std::min(230.0, text_width(category)));
  PlacedAxis axis{axis_span(chart.value, range_of(chart), 7, Zero::always), 10 + names + 10, width - 76};
  const double thickness = chart.series.size() == 1 ? 16 : 11;
  const double group = thickness * static_cast<double>(std::max<std::size_t>(1, chart.series.size())) + 8;
  const double bottom = top + group * static_cast<double>(chart.categories.size());

  std::string grid;
  for (const Tick& tick : axis.span.ticks) {
    const double x = axis.at(tick.value);
    grid += fmt::format("M{} {}V{}", coordinate(x), coordinate(top), coordinate(bottom));
    body += text_at(x, bottom + 16, "t", Anchor::middle, tick.label);
  }
  body += fmt::format("<path class=\"g\" d=\"{}\"/>", grid);
  const double zero =
      axis.span.scale == Scale::linear ? axis.at(std::clamp(0.0, axis.span.from, axis.span.to)) : axis.begin;
  for (std::size_t c = 0; c < chart.categories.size(); ++c) {
    const double y = top + group * static_cast<double>(c) + 4;
    const std::string name = fitted(chart.categories[c], 230);
    body += text_at(axis.begin - 8, y + (group - 8) / 2 + 4, "", Anchor::end, name);
    for (std::size_t s = 0; s < chart.series.size(); ++s) {
      const BarSeries& series = chart.series[s];
      const double value = series.values[c];
      const double bar_y = y + thickness * static_cast<double>(s);
      if (!has_place(value, axis.span.scale)) {
        body += text_at(zero + 6, bar_y + thickness / 2 + 4, "t q", Anchor::start, short_number(value));
        continue;
      }
      const double end = axis.at(std::clamp(value, axis.span.from, axis.span.to));
      const double spread = spread_of(series, c);
      const std::string told = short_number(value) + (spread > 0 ? " ± " + short_number(spread, 2) : "");
      body += with_tooltip(
          rectangle(std::min(zero, end), bar_y + 1, std::max(1.0, std::fabs(end - zero)), thickness - 2,
                    fmt::format("f{}", s + 1)),
          {chart.categories[c], chart.series.size() > 1 ? series.name : "",
           fmt::format("{}: {}{}{}", chart.value.label, told, chart.value.unit.empty() ? "" : " ", chart.value.unit)});
      double tip = std::max(zero, end);
      if (spread > 0) {
        const double low = axis.at(std::max(axis.span.from, value - spread));
        const double high = axis.at(std::min(axis.span.to, value + spread));
        body += fmt::format("<path class=\"r0\" d=\"M{0} {2}H{1}M{0} {3}v6M{1} {3}v6\"/>", coordinate(low),
                            coordinate(high), coordinate(bar_y + thickness / 2), coordinate(bar_y + thickness / 2 - 3));
        tip = std::max(tip, high);
      }
      body += text_at(tip + 5, bar_y + thickness / 2 + 4, "t q", Anchor::start, short_number(value, 3));
    }
  }
  for (const ReferenceLine& line : chart.references) {
    if (!axis.span.contains(line.y)) continue;
    const double x = axis.at(line.y);
    body += line_from(x, top - 2, x, bottom, "r");
    body += text_at(x, bottom + 30, "", x > width * 0.6 ? Anchor::end : Anchor::start,
                    fmt::format("{}: {}", line.label, short_number(line.y)));
  }
  body += line_from(zero, top, zero, bottom, "a");
  const double below = bottom + (chart.references.empty() ? 34 : 48);
  body += text_at((axis.begin + axis.end) / 2, below, "n", Anchor::middle, axis_title(chart.value));
  return {chart.caption, static_cast<int>(width), static_cast<int>(std::ceil(below + 8)), std::move(body),
          numbers_of(chart)};
}

}  // namespace pq::report
