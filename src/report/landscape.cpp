#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

#include "report/colour_grid.h"
#include "report/figure.h"
#include "report/number.h"
#include "report/svg.h"

namespace pq::report {
namespace {

constexpr double width = 760;
constexpr std::size_t most_rows = 72;
constexpr std::size_t most_columns = 128;
constexpr std::size_t most_named = 8;

struct Peak {
  std::size_t token = 0;
  std::size_t channel = 0;
  double magnitude = 0;
};

/// The largest magnitude of every token, the largest first.
std::vector<Peak> peaks_of(const Landscape& landscape) {
  std::vector<Peak> peaks;
  for (std::size_t t = 0; t < landscape.tokens.size(); ++t) {
    const auto begin = landscape.magnitudes.begin() + static_cast<std::ptrdiff_t>(t * landscape.channels);
    const auto largest = std::max_element(begin, begin + static_cast<std::ptrdiff_t>(landscape.channels));
    peaks.push_back({t, static_cast<std::size_t>(largest - begin), *largest});
  }
  std::stable_sort(peaks.begin(), peaks.end(), [](const Peak& a, const Peak& b) { return a.magnitude > b.magnitude; });
  return peaks;
}

/// The channel, or those that were pooled: "12-15".
Cell channel_of(const Peak& peak, const Landscape& landscape) {
  const std::size_t first = peak.channel * landscape.pooled;
  if (landscape.pooled == 1) return whole(static_cast<std::int64_t>(first));
  return fmt::format("{}-{}", first, first + landscape.pooled - 1);
}

Table numbers_of(const std::vector<Peak>& peaks, const Landscape& landscape) {
  Table table{
      "Tokens with the largest " + landscape.value_label, {"position", "token", "channel", landscape.value_label}, {}};
  for (std::size_t i = 0; i < std::min<std::size_t>(10, peaks.size()); ++i) {
    const Peak& peak = peaks[i];
    table.rows.push_back({whole(static_cast<std::int64_t>(peak.token)), token(landscape.tokens[peak.token]),
                          channel_of(peak, landscape), number(peak.magnitude)});
  }
  if (!peaks.empty()) table.rows.push_back({"median token", "", "", number(peaks[peaks.size() / 2].magnitude)});
  return table;
}

}  // namespace

Figure draw(const Landscape& landscape) {
  const std::size_t tokens = landscape.tokens.size();
  if (landscape.channels == 0 || tokens == 0 || landscape.magnitudes.size() != tokens * landscape.channels)
    throw std::logic_error("a landscape of other sizes than its magnitudes");
  const Grid grid = pooled({tokens, landscape.channels, {landscape.magnitudes.begin(), landscape.magnitudes.end()}},
                           most_rows, most_columns);
  const ColourScale scale = colour_scale(landscape.scale, grid.values, landscape.from, landscape.to);
  Axis value;
  value.label = landscape.value_label;
  value.scale = landscape.scale;
  std::string body = colour_legend(scale, axis_title(value), 10, 4);

  constexpr double names = 170;
  const double left = 52;
  const double top = ColourLegend::height + 22;
  const double cell = std::floor(100 * (width - names - left) / static_cast<double>(grid.columns)) / 100;
  const double height = grid.rows <= 24 ? 12 : grid.rows <= 48 ? 8 : 5;
  const double right = left + cell * static_cast<double>(grid.columns);
  const double bottom = top + height * static_cast<double>(grid.rows);
  body += rectangle(left, top, right - left, bottom - top, "c0");
  body += colour_runs(grid, scale, left, top, cell, height);

  // Positions on the left, channels below.
  const auto row_of = [&](double token) {
    return top + height * token * static_cast<double>(grid.rows) / static_cast<double>(tokens);
  };
  body += text_at(10, top - 8, "n", Anchor::start, "position");
  Axis positions;
  positions.whole = true;
  positions.from = 0;
  positions.to = static_cast<double>(tokens);
  for (const Tick& tick : axis_span(positions, {}, 6).ticks) {
    const double y = row_of(tick.value + 0.5);
    if (y < bottom) body += text_at(left - 7, y + 4, "t", Anchor::end, tick.label);
  }
  Axis channels = positions;
  channels.to = static_cast<double>(landscape.channels * landscape.pooled);
  const PlacedAxis across{
      axis_span(channels, {}, 8), left,
      left + cell * static_cast<double>(landscape.channels) /
                 std::ceil(static_cast<double>(landscape.channels) / static_cast<double>(grid.columns))};
  for (const Tick& tick : across.span.ticks) {
    const double x = across.at(tick.value);
    if (x <= right + 1)
      body += line_from(x, bottom, x, bottom + 4, "a") + text_at(x, bottom + 17, "t", Anchor::middle, tick.label);
  }
  body += text_at((left + right) / 2, bottom + 36, "n", Anchor::middle, "channel");

  // The names of the largest on the right, from top to bottom, none over another.
  const std::vector<Peak> peaks = peaks_of(landscape);
  // Of tokens like all others, the first few.
  const auto stands_out = [&](const Peak& peak) { return peak.magnitude > 4 * peaks[peaks.size() / 2].magnitude; };
  const auto end = std::find_if_not(peaks.begin(), peaks.end(), stands_out);
  const std::size_t count = std::clamp<std::size_t>(static_cast<std::size_t>(end - peaks.begin()),
                                                    std::min<std::size_t>(3, peaks.size()), most_named);
  std::vector<Peak> named(peaks.begin(), peaks.begin() + static_cast<std::ptrdiff_t>(std::min(count, peaks.size())));
  std::sort(named.begin(), named.end(), [](const Peak& a, const Peak& b) { return a.token < b.token; });
  constexpr double line = 14;
  double free_from = top - 4;
  for (std::size_t i = 0; i < named.size(); ++i) {
    const double wanted = row_of(static_cast<double>(named[i].token) + 0.5);
    const double room_below = line * static_cast<double>(named.size() - i);
    const double y =
        std::max(free_from, std::min(wanted, std::max(bottom + 12, top + line * static_cast<double>(named.size())) -
                                                 room_below + line / 2));
    free_from = y + line;
    body += line_from(right + 1, wanted, right + 12, y, "a");
    // The number first: behind a word that is written from right to left it would change sides.
    const std::string label =
        short_number(named[i].magnitude, 3) + "  " + fitted(landscape.tokens[named[i].token], 100);
    body += text_at(right + 15, y + 4, "", Anchor::start, label);
  }
  body += text_at(right + 15, top - 8, "n", Anchor::start, "largest tokens");
  return {landscape.caption, static_cast<int>(width), static_cast<int>(std::ceil(std::max(bottom + 44, free_from + 4))),
          std::move(body), numbers_of(peaks, landscape)};
}

}  // namespace pq::report
