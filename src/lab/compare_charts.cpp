#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "lab/compare_report.h"
#include "report/number.h"

namespace pq::lab {
namespace {

using report::Axis;
using report::Drawing;
using report::Figure;
using report::Scale;
using report::short_number;

constexpr std::size_t most_series = 8;

/// Steps of a precision stand in the order of the ladder, those with static scales behind the others.
std::string step_name(const ComparedRow& row) {
  const bool repeated = row.activation == "static" && row.name != "+ static quantization";
  return repeated ? row.name + " (static)" : row.name;
}

/// Values of more than a decade are compared on a logarithmic scale.
Scale scale_for(double least, double largest) { return least > 0 && largest > 8 * least ? Scale::log : Scale::linear; }

/// As titles say it.
std::string with_unit(double value, const std::string& unit) {
  return unit.empty() ? short_number(value, 3) : fmt::format("{} {}", short_number(value, 3), unit);
}

}  // namespace

CompareReport::Charted CompareReport::of_text(std::string name, std::string unit, Measure what) const {
  return {std::move(name), std::move(unit), false,
          [this, what](const ComparedRow& row) { return measure(row, text.lengths.size() - 1, what); }};
}

std::optional<CompareReport::Charted> CompareReport::accuracy() const {
  if (!tasks.average_accuracy(rows.front().runs.front().evaluation)) return std::nullopt;
  return Charted{tasks.average_name(), "%", true, [this](const ComparedRow& row) {
                   std::vector<double> values;
                   for (const ComparedRun& run : row.runs)
                     values.push_back(100 * tasks.average_accuracy(run.evaluation)->value);
                   OverSeeds value = over_seeds(values);
                   const double error = tasks.average_accuracy(row.runs.front().evaluation)->standard_error;
                   if (row.runs.size() == 1 && std::isfinite(error)) value.deviation = 100 * error;
                   return value;
                 }};
}

report::Figure CompareReport::steps_chart(std::string id, const Charted& what, bool with_unquantized) const {
  report::LineChart chart{{std::move(id), "", ""}, {"step", ""}, {what.name, what.unit}, {}};
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
    const OverSeeds value = what.of(row);
    chart.series.back().points.push_back(
        {static_cast<double>(at - steps.begin()), value.mean, 0, value.deviation, false, row.activation});
    least = std::min(least, value.mean);
    largest = std::max(largest, value.mean);
    if (before != nullptr) {
      const double old = what.of(*before).mean;
      if (value.mean > 0 && old / value.mean > widest_step) {
        widest_step = old / value.mean;
        largest_step = fmt::format("The step that gains most is {} of {}: {} falls from {} to {}", step, precision,
                                   what.name, short_number(old, 3), short_number(value.mean, 3));
      }
    }
    before = &row;
  }
  chart.caption.title = widest_step > 1 ? largest_step : what.name + " after each step";
  chart.caption.description = fmt::format("The {} after each step, at {} tokens.", what.name, text.lengths.back());
  if (seeds > 1) chart.caption.description += fmt::format(" Bars: standard deviation over {} seeds.", seeds);
  if (with_unquantized) {
    chart.references.push_back({what.of(rows.front()).mean, "FP16"});
    least = std::min(least, chart.references.front().y);
  }
  chart.y.scale = scale_for(least, largest);
  return draw(chart);
}

report::Figure CompareReport::ablation_chart(std::string id, const Charted& what) const {
  report::BarChart chart{{std::move(id), "", ""}, {what.name, what.unit}, "prefix", {}, {{what.name, {}, {}}}};
  double least = std::numeric_limits<double>::infinity();
  double largest = 0;
  std::string best;
  for (const ComparedRow& row : rows) {
    if (!row.quantized) continue;
    const std::string& prefix = row.runs.front().prefix_text;
    const OverSeeds value = what.of(row);
    chart.categories.push_back(prefix.empty() ? row.name : fmt::format("{}: {}", row.name, prefix));
    chart.series.front().values.push_back(value.mean);
    if (seeds > 1) chart.series.front().spreads.push_back(value.deviation);
    if (value.mean < least) best = chart.categories.back();
    least = std::min(least, value.mean);
    largest = std::max(largest, value.mean);
  }
  chart.caption.title = fmt::format("Least {} ({}): {}", what.name, short_number(least, 3), best);
  chart.caption.description = fmt::format("{}, {}, by number and content of the prefix.",
                                          precision_name(rows.back().recipe()), rows.back().activation);
  chart.references.push_back({what.of(rows.front()).mean, "FP16"});
  chart.value.scale = scale_for(std::min(least, chart.references.front().y), largest);
  if (chart.value.scale == Scale::linear) chart.references.clear();  // the axis begins at zero, all stand near it
  return draw(chart);
}

report::Figure CompareReport::accuracy_chart(const Charted& what) const {
  report::BarChart chart{{"accuracy", "", ""}, {what.name, what.unit}, "recipe", {}, {{what.name, {}, {}}}};
  double best = 0;
  std::string best_name;
  for (const ComparedRow& row : rows) {
    const OverSeeds value = what.of(row);
    chart.categories.push_back(row.title());
    chart.series.front().values.push_back(value.mean);
    chart.series.front().spreads.push_back(value.deviation);
    if (!row.quantized || value.mean <= best) continue;
    best = value.mean;
    best_name = row.title();
  }
  const double unquantized = what.of(rows.front()).mean;
  chart.caption.title = best_name.empty()
                            ? fmt::format("The unquantized model: {}", with_unit(unquantized, what.unit))
                            : fmt::format("Best of the quantized: {}, {}; the unquantized model has {}", best_name,
                                          with_unit(best, what.unit), with_unit(unquantized, what.unit));
  chart.caption.description =
      seeds > 1 ? fmt::format(
                      "The {}. Bars: standard deviation over {} seeds, where a row has several; else the "
                      "standard error.",
                      what.name, seeds)
                : fmt::format("The {}. Bars: its standard error.", what.name);
  return draw(chart);
}

report::Figure CompareReport::trade_chart(std::string id, const Charted& what, bool speed) const {
  const Axis x = speed ? Axis{"speed, " + speed_test, "tokens/s"} : Axis{"size", "bits a weight"};
  report::LineChart chart{{std::move(id), "", ""}, x, {what.name, what.unit}, {}};
  report::Series all{"recipes", {}, Drawing::points};
  for (const ComparedRow& row : rows) {
    const std::optional<double> cost = speed ? row.tokens_per_second : row.bits_per_weight;
    if (!row.whole || !cost) continue;
    const OverSeeds value = what.of(row);
    all.points.push_back({*cost, value.mean, speed ? row.tokens_per_second_spread : 0, value.deviation, true,
                          row.quantized ? row.recipe().name : row.name});
  }
  // None is at least as good in both and better in one.
  report::Series front{"none is better in both", {}, Drawing::line};
  for (const report::Point& point : all.points) {
    const bool beaten = std::any_of(all.points.begin(), all.points.end(), [&](const report::Point& other) {
      const bool no_dearer = speed ? other.x >= point.x : other.x <= point.x;
      const bool no_worse = what.larger_is_better ? other.y >= point.y : other.y <= point.y;
      return no_dearer && no_worse && (other.x != point.x || other.y != point.y);
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
        fmt::format("{} of those that none beats in both: {}, {} {} at {} {}", speed ? "Fastest" : "Smallest",
                    named->label, what.name, with_unit(cheapest->y, what.unit), short_number(cheapest->x), x.unit);
  }
  chart.caption.description =
      speed ? fmt::format(
                  "The {} against speed on the integer runtime, of whole recipes; bars: its spread and that over "
                  "seeds.",
                  what.name)
            : fmt::format(
                  "The {} against the bits that a weight of the linear layers takes, scales and zero points "
                  "included, of whole recipes. Activations and KV cache may have other widths: see the names.",
                  what.name);
  if (what.larger_is_better && seeds == 1) chart.caption.description += " Bars up and down: the standard error.";
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

}  // namespace pq::lab
