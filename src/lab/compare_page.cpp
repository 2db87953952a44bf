#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "lab/compare_report.h"
#include "lab/quantize_report.h"
#include "report/number.h"

namespace pq::lab {
namespace {

using report::Axis;
using report::Drawing;
using report::Figure;
using report::Scale;
using report::short_number;
using Result = eval::ComparisonResult;

constexpr std::size_t most_series = 8;

/// Steps of a precision stand in the order of the ladder, those with static scales behind the others.
std::string step_name(const ComparedRow& row) {
  const bool repeated = row.activation == "static" && row.name != "+ static quantization";
  return repeated ? row.name + " (static)" : row.name;
}

/// Values of more than a decade are compared on a logarithmic scale.
Scale scale_for(double least, double largest) { return least > 0 && largest > 8 * least ? Scale::log : Scale::linear; }

}  // namespace

std::string CompareReport::finding() const {
  const double unquantized = measure(rows.front(), text.lengths.size() - 1, &Result::perplexity).mean;
  const ComparedRow* first = nullptr;
  const ComparedRow* best = nullptr;
  double first_perplexity = 0;
  double best_perplexity = std::numeric_limits<double>::infinity();
  for (const ComparedRow& row : rows) {
    if (!row.quantized) continue;
    const double perplexity = measure(row, text.lengths.size() - 1, &Result::perplexity).mean;
    const bool new_precision = first == nullptr || precision_name(first->recipe()) != precision_name(row.recipe());
    if (new_precision) {  // the last one is told
      first = &row;
      first_perplexity = perplexity;
      best_perplexity = std::numeric_limits<double>::infinity();
    }
    if (perplexity < best_perplexity) {
      best = &row;
      best_perplexity = perplexity;
    }
  }
  if (best == nullptr) return fmt::format("The unquantized model has a perplexity of {}.", short_number(unquantized));
  return fmt::format("{}: perplexity {} by {}, at best {} ({}, {}); the unquantized model has {}.",
                     precision_name(best->recipe()), short_number(first_perplexity), first->name,
                     short_number(best_perplexity), best->name, best->activation, short_number(unquantized));
}

report::Figure CompareReport::steps_chart(std::string id, const Axis& axis, Measure what, bool with_unquantized) const {
  const std::size_t pass = text.lengths.size() - 1;
  report::LineChart chart{{std::move(id), "", ""}, {"step", ""}, axis, {}};
  std::vector<std::string>& steps = chart.x.categories;
  double least = std::numeric_limits<double>::infinity();
  double largest = 0;
  double widest_step = 0;
  const ComparedRow* before = nullptr;
  std::string largest_step;
  for (const ComparedRow& row : rows) {
    if (!row.quantized) continue;
    const std::string precision = precision_name(row.recipe());
    const bool same = before != nullptr && precision_name(before->recipe()) == precision;
    if (!same) {
      before = nullptr;
      if (chart.series.size() == most_series) break;
      chart.series.push_back({precision, {}});
    }
    const std::string step = step_name(row);
    auto at = std::find(steps.begin(), steps.end(), step);
    if (at == steps.end()) at = steps.insert(steps.end(), step);
    const OverSeeds value = measure(row, pass, what);
    chart.series.back().points.push_back(
        {static_cast<double>(at - steps.begin()), value.mean, 0, value.deviation, false, row.activation});
    least = std::min(least, value.mean);
    largest = std::max(largest, value.mean);
    if (before != nullptr) {
      const double old = measure(*before, pass, what).mean;
      if (value.mean > 0 && old / value.mean > widest_step) {
        widest_step = old / value.mean;
        largest_step = fmt::format("The step that gains most is {} of {}: {} falls from {} to {}", step, precision,
                                   axis.label, short_number(old, 3), short_number(value.mean, 3));
      }
    }
    before = &row;
  }
  chart.caption.title = widest_step > 1 ? largest_step : axis.label + " after each step";
  chart.caption.description = fmt::format("The {} after each step, at {} tokens.", axis.label, text.lengths.back());
  if (seeds > 1) chart.caption.description += fmt::format(" Bars: standard deviation over {} seeds.", seeds);
  if (with_unquantized) {
    chart.references.push_back({measure(rows.front(), pass, what).mean, "FP16"});
    least = std::min(least, chart.references.front().y);
  }
  chart.y.scale = scale_for(least, largest);
  return draw(chart);
}

report::Figure CompareReport::ablation_chart(std::string id, const Axis& axis, Measure what) const {
  const std::size_t pass = text.lengths.size() - 1;
  report::BarChart chart{{std::move(id), "", ""}, axis, "prefix", {}, {{axis.label, {}, {}}}};
  double least = std::numeric_limits<double>::infinity();
  double largest = 0;
  std::string best;
  for (const ComparedRow& row : rows) {
    if (!row.quantized) continue;
    const std::string& prefix = row.runs.front().prefix_text;
    const OverSeeds value = measure(row, pass, what);
    chart.categories.push_back(prefix.empty() ? row.name : fmt::format("{}: {}", row.name, prefix));
    chart.series.front().values.push_back(value.mean);
    if (seeds > 1) chart.series.front().spreads.push_back(value.deviation);
    if (value.mean < least) best = chart.categories.back();
    least = std::min(least, value.mean);
    largest = std::max(largest, value.mean);
  }
  chart.caption.title = fmt::format("Least {} ({}): {}", axis.label, short_number(least, 3), best);
  chart.caption.description = fmt::format("{}, {}, by number and content of the prefix.",
                                          precision_name(rows.back().recipe()), rows.back().activation);
  chart.references.push_back({measure(rows.front(), pass, what).mean, "FP16"});
  chart.value.scale = scale_for(std::min(least, chart.references.front().y), largest);
  if (chart.value.scale == Scale::linear) chart.references.clear();  // the axis begins at zero, all stand near it
  return draw(chart);
}

report::Figure CompareReport::trade_chart(bool speed) const {
  const std::size_t pass = text.lengths.size() - 1;
  const Axis x = speed ? Axis{"speed, " + speed_test, "tokens/s"} : Axis{"size", "bits a weight"};
  report::LineChart chart{{speed ? "speed" : "size", "", ""}, x, {"perplexity", ""}, {}};
  report::Series all{"recipes", {}, Drawing::points};
  for (const ComparedRow& row : rows) {
    const std::optional<double> cost = speed ? row.tokens_per_second : row.bits_per_weight;
    if (!row.whole || !cost) continue;
    const OverSeeds value = measure(row, pass, &Result::perplexity);
    all.points.push_back({*cost, value.mean, speed ? row.tokens_per_second_spread : 0, value.deviation, true,
                          row.quantized ? row.recipe().name : row.name});
  }
  // None is at least as good in both and better in one.
  report::Series front{"none is better in both", {}, Drawing::line};
  for (const report::Point& point : all.points) {
    const bool beaten = std::any_of(all.points.begin(), all.points.end(), [&](const report::Point& other) {
      const bool no_dearer = speed ? other.x >= point.x : other.x <= point.x;
      return no_dearer && other.y <= point.y && (other.x != point.x || other.y < point.y);
    });
    if (!beaten) front.points.push_back({point.x, point.y});
  }
  std::sort(front.points.begin(), front.points.end(), [](const auto& a, const auto& b) { return a.x < b.x; });
  const auto cheapest =
      speed ? front.points.empty() ? front.points.end() : front.points.end() - 1 : front.points.begin();
  if (cheapest != front.points.end()) {
    const auto named = std::find_if(all.points.begin(), all.points.end(), [&](const auto& point) {
      return point.x == cheapest->x && point.y == cheapest->y;
    });
    chart.caption.title =
        fmt::format("{} of those that none beats in both: {}, perplexity {} at {} {}", speed ? "Fastest" : "Smallest",
                    named->label, short_number(cheapest->y), short_number(cheapest->x), x.unit);
  }
  chart.caption.description =
      speed ? "Perplexity against speed on the integer runtime, of whole recipes; bars: its spread and that over seeds."
            : "Perplexity against the bits that a weight of the linear layers takes, scales and zero points included, "
              "of whole recipes. Activations and KV cache may have other widths: see the names.";
  const auto [least, largest] =
      std::minmax_element(all.points.begin(), all.points.end(), [](const auto& a, const auto& b) { return a.y < b.y; });
  if (!all.points.empty()) chart.y.scale = scale_for(least->y, largest->y);
  const bool joined = front.points.size() > 1;
  chart.series.push_back(std::move(all));
  if (joined) chart.series.push_back(std::move(front));
  Figure figure = draw(chart);
  std::erase_if(figure.numbers.rows, [](const auto& row) { return row.front().text == "none is better in both"; });
  return figure;
}

report::Table CompareReport::copy_table() const {
  report::Table table{fmt::format("{}: {}", last_name(model), described(last_name(text.path))),
                      {"recipe", "step", "activation", "prefix"},
                      {}};
  const bool spread = seeds > 1;
  const auto column = [&](const std::string& name) {
    table.header.push_back(name);
    if (spread) table.header.emplace_back("±");
  };
  for (const std::int64_t length : text.lengths) column(fmt::format("perplexity at {}", length));
  column("KL divergence (nats)");
  column("top-1 (%)");
  for (const std::string& name : tasks.header()) column(name);
  table.header.insert(table.header.end(), {"bits a weight", "seconds to quantize"});
  if (!speed_test.empty()) table.header.push_back(speed_test + " (tokens/s)");
  const std::size_t last = text.lengths.size() - 1;
  for (const ComparedRow& row : rows) {
    std::vector<report::Cell> cells{row.quantized ? precision_name(row.recipe()) : "FP16", row.name, row.activation,
                                    row.runs.front().prefix_text};
    const auto add = [&](const OverSeeds& value, int decimals, double factor = 1) {
      cells.push_back(report::fixed(factor * value.mean, decimals));
      if (spread) cells.push_back(row.runs.size() > 1 ? report::fixed(factor * value.deviation, decimals) : "-");
    };
    for (std::size_t pass = 0; pass <= last; ++pass) add(measure(row, pass, &Result::perplexity), 3);
    add(measure(row, last, &Result::kl_divergence), 5);
    add(measure(row, last, &Result::top1_agreement), 2, 100);
    for (const OverSeeds& figure : task_figures(row)) add(figure, 2);
    cells.push_back(report::number(row.bits_per_weight.value_or(std::nan(""))));
    cells.push_back(report::fixed(quantize_seconds(row).mean, 1));
    if (!speed_test.empty()) cells.push_back(report::number(row.tokens_per_second.value_or(std::nan(""))));
    table.rows.push_back(std::move(cells));
  }
  return table;
}

report::Page CompareReport::page() const {
  const Axis perplexity{"perplexity", ""};
  const Axis divergence{"KL divergence", "nats"};
  report::Page page{fmt::format("{}: {}", last_name(model),
                                ablates_prefix ? "number and content of the prefix" : "the price of each step"),
                    finding(),
                    {}};
  if (ablates_prefix) {
    page.sections.push_back({"prefix",
                             "The prefix",
                             {ablation_chart("prefix-perplexity", perplexity, &Result::perplexity),
                              ablation_chart("prefix-divergence", divergence, &Result::kl_divergence)}});
  } else {
    page.sections.push_back({"steps",
                             "Step by step",
                             {steps_chart("steps-perplexity", perplexity, &Result::perplexity, true),
                              steps_chart("steps-divergence", divergence, &Result::kl_divergence, false)}});
    report::Section trade{"trade", "What it costs", {trade_chart(false)}};
    if (!speed_test.empty()) {
      trade.items.emplace_back(trade_chart(true));
    } else {
      trade.items.emplace_back(
          report::Text{"Against tokens a second: give --bench FILE, what pq bench OUT.. --json wrote."});
    }
    page.sections.push_back(std::move(trade));
  }
  page.sections.push_back({"numbers", "All numbers", {report::CopyableTable{copy_table()}}});
  return page;
}

}  // namespace pq::lab
