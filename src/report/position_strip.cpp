#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/axis.h"
#include "report/figure.h"
#include "report/number.h"
#include "report/svg.h"

namespace pq::report {
namespace {

constexpr double width = 760;
constexpr double row_height = 56;
constexpr std::size_t longest_listed = 60;

/// The marks of a row that fall on one bar: the positions of one pixel.
struct Bar {
  std::size_t first = 0;
  std::size_t last = 0;
  double count = 0;
  std::string label;
};

std::vector<Bar> bars_of(const StripRow& row, std::size_t positions_a_bar) {
  std::vector<StripMark> marks = row.marks;
  std::stable_sort(marks.begin(), marks.end(), [](const auto& a, const auto& b) { return a.position < b.position; });
  std::vector<Bar> bars;
  for (const StripMark& mark : marks) {
    if (!(mark.count > 0) || !std::isfinite(mark.count)) continue;
    const bool same = !bars.empty() && bars.back().first / positions_a_bar == mark.position / positions_a_bar;
    if (!same) bars.push_back({mark.position, mark.position, 0, {}});
    Bar& bar = bars.back();
    bar.last = mark.position;
    bar.count += mark.count;
    if (!mark.label.empty() && bar.label.size() < 80) bar.label += (bar.label.empty() ? "" : ", ") + mark.label;
  }
  return bars;
}

Table numbers_of(const PositionStrip& strip) {
  Table table{"", {"condition", "position", strip.count_label, "what"}, {}};
  for (const StripRow& row : strip.rows) {
    std::vector<StripMark> marks = row.marks;
    std::stable_sort(marks.begin(), marks.end(), [](const auto& a, const auto& b) { return a.count > b.count; });
    if (marks.empty()) table.rows.push_back({row.name, "-", whole(0), ""});
    double rest = 0;
    for (std::size_t i = 0; i < marks.size(); ++i) {
      if (i < longest_listed) {
        table.rows.push_back(
            {row.name, whole(static_cast<std::int64_t>(marks[i].position)), number(marks[i].count), marks[i].label});
      } else {
        rest += marks[i].count;
      }
    }
    if (marks.size() > longest_listed)
      table.rows.push_back({row.name, fmt::format("{} others", marks.size() - longest_listed), number(rest), ""});
  }
  return table;
}

}  // namespace

Figure draw(const PositionStrip& strip) {
  const double left = 24;
  const double right = width - 24;
  const auto length = static_cast<double>(std::max<std::size_t>(1, strip.length));
  const double pixels = (right - left) / length;
  const auto positions_a_bar = std::max<std::size_t>(1, static_cast<std::size_t>(std::ceil(2 / pixels)));
  std::vector<std::vector<Bar>> rows;
  double most = 0;
  for (const StripRow& row : strip.rows) {
    rows.push_back(bars_of(row, positions_a_bar));
    for (const Bar& bar : rows.back()) most = std::max(most, bar.count);
  }
  std::string body;
  double y = 8;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    double sum = 0;
    for (const Bar& bar : rows[r]) sum += bar.count;
    const double base = y + 18 + row_height;
    body += text_at(left, y + 12, "n", Anchor::start, strip.rows[r].name);
    body += text_at(
        right, y + 12, "t", Anchor::end,
        sum > 0 ? fmt::format("{} in all; the full height is {}", short_number(sum), short_number(most, 3)) : "none");
    body += rectangle(left, base - row_height, right - left, row_height, "x");
    for (const Bar& bar : rows[r]) {
      const double height = std::max(2.0, bar.count / most * (row_height - 3));
      const double x = left + pixels * static_cast<double>(bar.first / positions_a_bar * positions_a_bar);
      const double bar_width = std::clamp(pixels * static_cast<double>(positions_a_bar) - 1, 1.5, 14.0);
      const std::string where = bar.first == bar.last ? fmt::format("position {}", bar.first)
                                                      : fmt::format("positions {} to {}", bar.first, bar.last);
      body += with_tooltip(rectangle(x, base - height, bar_width, height, fmt::format("f{}", r % 8 + 1)),
                           {where, fmt::format("{}: {}", strip.count_label, short_number(bar.count)), bar.label});
    }
    body += line_from(left, base, right, base, "a");
    y = base + 6;
  }
  Axis axis;
  axis.whole = true;
  axis.from = 0;
  axis.to = length;
  const PlacedAxis positions{axis_span(axis, {}, 10), left, right};
  for (const Tick& tick : positions.span.ticks) {
    if (tick.value >= length && length > 1) continue;
    const double x = positions.at(tick.value) + std::min(7.0, pixels / 2);
    body += text_at(x, y + 11, "t", Anchor::middle, tick.label);
  }
  body += text_at((left + right) / 2, y + 30, "n", Anchor::middle, "position in the sequence");
  return {strip.caption, static_cast<int>(width), static_cast<int>(std::ceil(y + 38)), std::move(body),
          numbers_of(strip)};
}

}  // namespace pq::report
