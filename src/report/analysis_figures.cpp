#include "report/analysis_figures.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "report/escape.h"
#include "report/number.h"

namespace pq::report {
namespace {

constexpr std::array<std::string_view, 7> order_names{"top-1",   "top-2",   "top-3",  "median",
                                                      "least-3", "least-2", "least-1"};

std::array<double, 7> ordered(const TokenMaxima& maxima) {
  return {maxima.top[0],   maxima.top[1],   maxima.top[2],  maxima.median,
          maxima.least[2], maxima.least[1], maxima.least[0]};
}

/// "down-input": a key as part of an element's id.
std::string id_part(std::string_view key) {
  std::string id(key);
  std::replace(id.begin(), id.end(), '_', '-');
  return id;
}

std::string capital(std::string text) {
  if (!text.empty() && text[0] >= 'a' && text[0] <= 'z') text[0] = static_cast<char>(text[0] - 'a' + 'A');
  return text;
}

std::string percent(double share) { return fmt::format("{:.1f}%", 100 * share); }

Axis block_axis() {
  Axis axis;
  axis.label = "block";
  axis.whole = true;
  return axis;
}

/// A value of every block in every condition.
template <typename Value>
std::vector<Series> by_condition(const ModelAnalysis& analysis, const Value& value) {
  std::vector<Series> all;
  for (const ConditionAnalysis& condition : analysis.conditions) {
    Series series;
    series.name = condition.name;
    for (std::size_t i = 0; i < condition.blocks.size(); ++i) {
      Point point;
      point.x = static_cast<double>(i);
      point.y = value(condition.blocks[i]);
      series.points.push_back(std::move(point));
    }
    all.push_back(std::move(series));
  }
  return all;
}

/// Smallest and largest positive value.
struct Ends {
  double from = std::numeric_limits<double>::infinity();
  double to = 0;
  void take(double value) {
    if (!(value > 0) || std::isinf(value)) return;
    from = std::min(from, value);
    to = std::max(to, value);
  }
};

}  // namespace

std::string times(double ratio) { return short_number(ratio, 3); }

Figure maxima_figure(const ModelAnalysis& analysis, const ConditionAnalysis& condition, const WatchedRow& tensor) {
  Ends ends;
  for (const ConditionAnalysis& other : analysis.conditions) {
    for (const BlockAnalysis& block : other.blocks) {
      for (const double value : ordered(block.maxima[tensor.id])) ends.take(value);
    }
  }
  const LargestRatio top = largest_top_ratio(condition, tensor.id);
  const LargestRatio least = largest_least_ratio(condition, tensor.id);
  LineChart chart;
  chart.caption.id = fmt::format("maxima-{}-{}", id_part(tensor.key), condition.key);
  chart.caption.title = fmt::format(
      "{}, {}: top-1 is up to {} times the median (block {}), the median up to {} times least-1 (block {})",
      capital(std::string(tensor.name)), condition.name, times(top.ratio), top.block, times(least.ratio), least.block);
  chart.caption.description = fmt::format(
      "Token-wise maxima by block: the largest three of any sequence, the mean of the medians, the smallest three. The "
      "largest ratio within a sequence is marked for both ends. The paper's {}.",
      tensor.paper);
  chart.x = block_axis();
  chart.y.label = "largest magnitude of a token";
  chart.y.scale = Scale::log;
  if (ends.to > 0) {
    chart.y.from = ends.from;
    chart.y.to = ends.to;
  }
  for (std::size_t i = 0; i < order_names.size(); ++i) {
    Series series;
    series.name = order_names[i];
    series.drawing = Drawing::line;
    for (std::size_t b = 0; b < condition.blocks.size(); ++b) {
      Point point;
      point.x = static_cast<double>(b);
      point.y = ordered(condition.blocks[b].maxima[tensor.id])[i];
      const auto block = static_cast<std::int64_t>(b);
      if (i == 0 && block == top.block) {
        point.marked = true;
        point.label = fmt::format("top-1/median {}", times(top.ratio));
      } else if (i + 1 == order_names.size() && block == least.block) {
        point.marked = true;
        point.label = fmt::format("median/least-1 {}", times(least.ratio));
      }
      series.points.push_back(std::move(point));
    }
    chart.series.push_back(std::move(series));
  }
  return draw(chart);
}

Figure outlier_count_figure(const ModelAnalysis& analysis) {
  LineChart chart;
  chart.caption.id = "outlier-counts";
  chart.caption.description = fmt::format(
      "Upper outlier tokens a sequence at the input of down_proj: larger than {} times the median of their "
      "sequence. The paper's figure 4a.",
      times(analysis.upper_threshold));
  chart.x = block_axis();
  chart.y.label = "outlier tokens a sequence";
  chart.y.from = 0;
  std::vector<std::string> found;
  for (const ConditionAnalysis& condition : analysis.conditions) {
    if (!condition.outliers) continue;
    Series series;
    series.name = condition.name;
    double most = 0;
    for (std::size_t i = 0; i < condition.outliers->per_sequence.size(); ++i) {
      Point point;
      point.x = static_cast<double>(i);
      point.y = condition.outliers->per_sequence[i];
      most = std::max(most, point.y);
      series.points.push_back(std::move(point));
    }
    found.push_back(fmt::format("{} {}", times(most), condition.name));
    chart.series.push_back(std::move(series));
  }
  chart.caption.title = "Outlier tokens a sequence in the worst block: ";
  for (std::size_t i = 0; i < found.size(); ++i) chart.caption.title += (i == 0 ? "" : ", ") + found[i];
  return draw(chart);
}

Figure outlier_token_figure(const OutlierTokens& outliers) {
  constexpr std::size_t most = 8;
  BarChart chart;
  chart.caption.id = "outlier-tokens";
  const TokenCount& first = outliers.tokens.at(0);
  chart.caption.title = fmt::format(
      "Beyond the first position, {} is the most frequent outlier: {} times, in {} of the "
      "sequences",
      visible_token(first.text), first.count, percent(first.sequence_share));
  chart.caption.description =
      "How often a token was an outlier at the input of down_proj, over all sequences and blocks. The paper's figures "
      "4b and 8.";
  chart.value.label = "times";
  chart.value.whole = true;
  chart.category_label = "token";
  BarSeries series;
  series.name = "times an outlier";
  for (std::size_t i = 0; i < std::min(most, outliers.tokens.size()); ++i) {
    chart.categories.push_back(visible_token(outliers.tokens[i].text));
    series.values.push_back(static_cast<double>(outliers.tokens[i].count));
  }
  chart.series.push_back(std::move(series));
  return draw(chart);
}

Figure outlier_position_figure(const ModelAnalysis& analysis) {
  PositionStrip strip;
  strip.caption.id = "outlier-positions";
  strip.caption.description =
      "Outlier tokens by position, over all sequences and blocks. Behind a prefix its tokens take the first positions. "
      "The paper's figures 4c and 4d.";
  strip.length = static_cast<std::size_t>(analysis.length) + analysis.prefix.size();
  const auto prefix = static_cast<std::int64_t>(analysis.prefix.size());
  std::int64_t in_text = 0, in_prefix = 0;
  for (const ConditionAnalysis& condition : analysis.conditions) {
    if (!condition.outliers) continue;
    StripRow row;
    row.name = condition.name;
    const std::vector<std::int64_t>& counts = condition.outliers->position_counts;
    const bool behind = condition.key == "prefixed";
    for (std::size_t i = 0; i < counts.size(); ++i) {
      const bool own = behind && static_cast<std::int64_t>(i) < prefix;
      if (behind) (own ? in_prefix : in_text) += counts[i];
      if (counts[i] == 0) continue;
      StripMark mark;
      mark.position = i;
      mark.count = static_cast<double>(counts[i]);
      if (own) mark.label = fmt::format("prefix: {}", visible_token(analysis.prefix[i].text));
      row.marks.push_back(std::move(mark));
    }
    strip.rows.push_back(std::move(row));
  }
  strip.caption.title =
      find_condition(analysis, "prefixed") == nullptr ? "Where the outlier tokens stand"
      : in_text == 0                                  ? "With the prefix, no token of the text is an outlier"
                     : fmt::format("With the prefix, {} of {} outliers stand in it", in_prefix, in_prefix + in_text);
  return draw(strip);
}

Figure error_share_figure(const ModelAnalysis& analysis) {
  LineChart chart;
  chart.caption.id = "error-share";
  std::size_t block = 0;
  const std::vector<BlockAnalysis>& original = analysis.conditions.at(0).blocks;
  for (std::size_t i = 0; i < original.size(); ++i) {
    if (original[i].error.worst_share[1] > original[block].error.worst_share[1]) block = i;
  }
  chart.caption.title = fmt::format("The worst two tokens of a sequence carry up to {} of a block's error (block {})",
                                    percent(original.at(block).error.worst_share[1]), block);
  chart.caption.description = fmt::format(
      "Share of the squared error of a block's output in the worst two tokens of each sequence, with the inputs of its "
      "linear layers in 4 bits, a scale a token; {} sequences of {} tokens. The paper's figure 1.",
      analysis.error_sequences, analysis.length);
  chart.x = block_axis();
  chart.y.label = "share of the squared error";
  chart.y.from = 0;
  chart.y.to = 1;
  chart.series = by_condition(analysis, [](const BlockAnalysis& found) { return found.error.worst_share[1]; });
  return draw(chart);
}

Figure error_figure(const ModelAnalysis& analysis) {
  LineChart chart;
  chart.caption.id = "error";
  double most = 0;
  std::vector<double> sums;
  for (const ConditionAnalysis& condition : analysis.conditions) {
    most = 0;
    for (const BlockAnalysis& block : condition.blocks) most = std::max(most, block.error.mean_squared_error);
    sums.push_back(most);
  }
  chart.caption.title = fmt::format("The largest mean squared error of a block's output is {} {}",
                                    short_number(sums.at(0), 3), analysis.conditions.at(0).name);
  for (std::size_t i = 1; i < sums.size(); ++i) {
    chart.caption.title += fmt::format(", {} {}", short_number(sums[i], 3), analysis.conditions[i].name);
  }
  chart.caption.description =
      "With the inputs of the block's linear layers in 4 bits, a scale a token; weights, K and V as they are.";
  chart.x = block_axis();
  chart.y.label = "mean squared error";
  chart.y.scale = Scale::log;
  chart.series = by_condition(analysis, [](const BlockAnalysis& found) { return found.error.mean_squared_error; });
  return draw(chart);
}

Figure block_error_figure(const ModelAnalysis& analysis, std::int64_t block) {
  const auto at = static_cast<std::size_t>(block);
  BarChart chart;
  chart.caption.id = fmt::format("error-block-{}", block);
  const ErrorShare& original = analysis.conditions.at(0).blocks.at(at).error;
  chart.caption.title = fmt::format("Block {}: the worst two tokens of a sequence carry {} of the error", block,
                                    percent(original.worst_share[1]));
  chart.caption.description = fmt::format(
      "Squared error of the block's output, by token, in 4 bits a scale a token (the paper's figure 1). In the first "
      "sequence the worst are {} at position {} and {} at {}.",
      visible_token(original.worst_tokens[0].text), original.worst_tokens[0].position,
      visible_token(original.worst_tokens[1].text), original.worst_tokens[1].position);
  chart.value.label = "share of the squared error";
  chart.value.to = 1;
  chart.category_label = "tokens";
  chart.categories = {"the worst", "the second", "the third", "all others"};
  for (const ConditionAnalysis& condition : analysis.conditions) {
    const std::array<double, 3>& share = condition.blocks.at(at).error.worst_share;
    BarSeries series;
    series.name = condition.name;
    series.values = {share[0], share[1] - share[0], share[2] - share[1], 1 - share[2]};
    chart.series.push_back(std::move(series));
  }
  return draw(chart);
}

Figure magnitude_figure(const ModelAnalysis& analysis, const ConditionAnalysis& condition, std::int64_t block) {
  const auto at = static_cast<std::size_t>(block);
  double largest = 0;
  for (const ConditionAnalysis& other : analysis.conditions) {
    for (const float value : other.blocks.at(at).magnitudes.value().magnitudes) {
      largest = std::max(largest, static_cast<double>(value));
    }
  }
  const MagnitudeMap& map = condition.blocks.at(at).magnitudes.value();
  const float own = map.magnitudes.empty() ? 0 : *std::max_element(map.magnitudes.begin(), map.magnitudes.end());
  Landscape landscape;
  landscape.caption.id = fmt::format("magnitudes-{}-{}", block, condition.key);
  landscape.caption.title = fmt::format("Input of down_proj in block {}, {}: at most {}", block, condition.name,
                                        short_number(static_cast<double>(own), 3));
  landscape.caption.description =
      "Magnitudes of the first sequence, token by channel, each cell the largest of those that it stands for; one "
      "scale "
      "for all conditions. The paper's figure 2.";
  for (const TokenPlace& place : condition.first_sequence) landscape.tokens.push_back(visible_token(place.text));
  landscape.channels = static_cast<std::size_t>(map.columns);
  landscape.pooled = static_cast<std::size_t>(map.channels_in_column);
  landscape.magnitudes = map.magnitudes;
  if (largest > 0) {
    landscape.from = largest * 1e-5;
    landscape.to = largest;
  }
  return draw(landscape);
}

Figure prefix_attention_figure(const ModelAnalysis& analysis) {
  HeatMap map;
  map.caption.id = "prefix-attention";
  double sum = 0;
  std::int64_t heads = 0, most = 0;
  for (std::size_t block = 0; block < analysis.prefix_attention.size(); ++block) {
    map.rows.push_back(std::to_string(block));
    for (const double share : analysis.prefix_attention[block]) {
      map.values.push_back(share);
      sum += share;
      ++heads;
      most += share > 0.5 ? 1 : 0;
    }
  }
  for (std::size_t head = 0; head < analysis.prefix_attention.at(0).size(); ++head) {
    map.columns.push_back(std::to_string(head));
  }
  map.caption.title = fmt::format("The prefix gets {} of the attention; {} of {} heads pay it more than half",
                                  percent(sum / static_cast<double>(heads)), most, heads);
  map.caption.description = fmt::format(
      "Probability that a query gives the prefix's tokens together, mean over the queries of {} sequences. What is "
      "paid "
      "to the prefix is paid to nothing else: it takes the place of the first token.",
      analysis.error_sequences);
  map.row_label = "block";
  map.column_label = "head";
  map.value_label = "attention to the prefix";
  map.from = 0;
  map.to = 1;
  return draw(map);
}

}  // namespace pq::report
