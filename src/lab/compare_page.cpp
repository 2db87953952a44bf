#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <utility>

#include "lab/compare_report.h"
#include "lab/quantize_report.h"
#include "report/number.h"

namespace pq::lab {

using report::short_number;
using Result = eval::ComparisonResult;

std::string CompareReport::finding() const {
  if (has_text()) return finding(perplexity());
  const std::optional<Charted> what = accuracy();
  return what ? finding(*what) : fmt::format("{} models, by tasks.", rows.size());
}

std::string CompareReport::finding(const Charted& what) const {
  const double worst =
      what.larger_is_better ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity();
  const auto figure = [&](double value) { return short_number(value) + (what.unit.empty() ? "" : " " + what.unit); };
  const double unquantized = what.of(rows.front()).mean;
  const ComparedRow* first = nullptr;
  const ComparedRow* best = nullptr;
  double first_value = 0;
  double best_value = worst;
  for (const ComparedRow& row : rows) {
    if (!row.quantized) continue;
    const double value = what.of(row).mean;
    const bool new_precision = first == nullptr || precision_name(first->recipe()) != precision_name(row.recipe());
    if (new_precision) {  // the last one is told
      first = &row;
      first_value = value;
      best_value = worst;
    }
    if (what.larger_is_better ? value > best_value : value < best_value) {
      best = &row;
      best_value = value;
    }
  }
  if (best == nullptr) return fmt::format("The unquantized model has {} {}.", what.name, figure(unquantized));
  const bool bare = ablates_prefix && first->runs.front().prefix.empty();
  const std::string how = bare ? "without a prefix" : (ablates_prefix ? "behind " : "by ") + first->name;
  if (best == first) {
    return fmt::format("{}: {} {} {}, and none of the other rows is better; the unquantized model has {}.",
                       precision_name(best->recipe()), what.name, figure(first_value), how, figure(unquantized));
  }
  return fmt::format("{}: {} {} {}, at best {} ({}, {}); the unquantized model has {}.", precision_name(best->recipe()),
                     what.name, figure(first_value), how, figure(best_value), best->name, best->activation,
                     figure(unquantized));
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
  if (has_text()) {
    column("KL divergence (nats)");
    column("top-1 (%)");
  }
  for (const std::string& name : tasks.header()) column(name);
  table.header.insert(table.header.end(), {"bits a weight", "seconds to quantize"});
  if (!speed_test.empty()) table.header.push_back(speed_test + " (tokens/s)");
  const std::size_t passes = text.lengths.size();
  for (const ComparedRow& row : rows) {
    std::vector<report::Cell> cells{row.quantized ? precision_name(row.recipe()) : "FP16", row.name, row.activation,
                                    row.runs.front().prefix_text};
    const auto add = [&](const OverSeeds& value, int decimals, double factor = 1) {
      cells.push_back(report::fixed(factor * value.mean, decimals));
      if (spread) cells.push_back(row.runs.size() > 1 ? report::fixed(factor * value.deviation, decimals) : "-");
    };
    for (std::size_t pass = 0; pass < passes; ++pass) add(measure(row, pass, &Result::perplexity), 3);
    if (has_text()) {
      add(measure(row, passes - 1, &Result::kl_divergence), 5);
      add(measure(row, passes - 1, &Result::top1_agreement), 2, 100);
    }
    for (const OverSeeds& figure : task_figures(row)) add(figure, 2);
    cells.push_back(report::number(row.bits_per_weight.value_or(std::nan(""))));
    cells.push_back(report::fixed(quantize_seconds(row).mean, 1));
    if (!speed_test.empty()) cells.push_back(report::number(row.tokens_per_second.value_or(std::nan(""))));
    table.rows.push_back(std::move(cells));
  }
  return table;
}

report::Page CompareReport::page() const {
  report::Page page{fmt::format("{}: {}", last_name(model),
                                ablates_prefix ? "number and content of the prefix" : "the price of each step"),
                    finding(),
                    {}};
  const std::optional<Charted> accuracies = accuracy();
  if (has_text() && ablates_prefix) {
    page.sections.push_back(
        {"prefix",
         "The prefix",
         {ablation_chart("prefix-perplexity", perplexity()), ablation_chart("prefix-divergence", divergence())}});
  } else if (has_text()) {
    page.sections.push_back(
        {"steps",
         "Step by step",
         {steps_chart("steps-perplexity", perplexity(), true), steps_chart("steps-divergence", divergence(), false)}});
  }
  if (accuracies) page.sections.push_back({"tasks", "Tasks", {accuracy_chart(*accuracies)}});
  if (!ablates_prefix && (has_text() || accuracies)) page.sections.push_back(trade_section(accuracies));
  page.sections.push_back({"numbers", "All numbers", {report::CopyableTable{copy_table()}}});
  return page;
}

report::Section CompareReport::trade_section(const std::optional<Charted>& accuracies) const {
  report::Section trade{"trade", "What it costs", {}};
  for (const bool speed : {false, true}) {
    if (speed && speed_test.empty()) continue;
    const std::string id = speed ? "speed" : "size";
    if (has_text()) trade.items.emplace_back(trade_chart(id, perplexity(), speed));
    if (accuracies) trade.items.emplace_back(trade_chart(id + "-accuracy", *accuracies, speed));
  }
  if (speed_test.empty()) {
    // Not in place: GCC 12 sees a copy beyond the string's end (-Warray-bounds).
    const report::Text hint{"Against tokens a second: give --bench FILE, what pq bench OUT.. --json wrote."};
    trade.items.emplace_back(hint);
  }
  return trade;
}

}  // namespace pq::lab
