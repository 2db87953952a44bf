#include "measure/speed_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <utility>

#include "base/table.h"

namespace pq::measure {
namespace {

std::vector<double> quotients(const std::vector<double>& above, const std::vector<double>& below) {
  std::vector<double> values;
  for (std::size_t i = 0; i < std::min(above.size(), below.size()); ++i) values.push_back(above[i] / below[i]);
  return values;
}

bool replaced(std::string_view name, std::string_view part, std::string_view by, std::string_view other) {
  const auto at = name.find(part);
  return at != std::string_view::npos &&
         fmt::format("{}{}{}", name.substr(0, at), by, name.substr(at + part.size())) == other;
}

bool comparable(const BenchRow& row, const BenchRow& over) {
  if (row.group != over.group || row.test != over.test) return false;
  if (row.quantized && !over.quantized) return true;
  return replaced(row.recipe, "static", "dynamic", over.recipe) || replaced(row.recipe, "w4a4", "w4a8", over.recipe);
}

std::string number(double value) { return fmt::format("{:.{}f}", value, value < 100 ? 2 : value < 1000 ? 1 : 0); }

/// A line a pair of recipes, a column a test.
std::string ratios_text(const std::vector<BenchRatio>& ratios) {
  std::vector<std::string> tests;
  std::vector<std::vector<std::string>> lines;
  for (const BenchRatio& ratio : ratios) {
    if (std::find(tests.begin(), tests.end(), ratio.test) == tests.end()) tests.push_back(ratio.test);
  }
  for (const BenchRatio& ratio : ratios) {
    const std::string name = fmt::format("{} / {}", ratio.recipe, ratio.over);
    auto line = std::find_if(lines.begin(), lines.end(),
                             [&](const auto& cells) { return cells[0] == ratio.shape && cells[1] == name; });
    if (line == lines.end()) {
      lines.push_back({ratio.shape, name});
      lines.back().resize(2 + tests.size(), "-");
      line = std::prev(lines.end());
    }
    const auto column = std::find(tests.begin(), tests.end(), ratio.test) - tests.begin();
    (*line)[static_cast<std::size_t>(column) + 2] = fmt::format("{:.2f}x", ratio.ratio);
  }
  std::vector<std::string> header{"shape", "speed of / over"};
  header.insert(header.end(), tests.begin(), tests.end());
  Table table(std::move(header));
  for (auto& line : lines) table.add_row(std::move(line));
  return table.text();
}

}  // namespace

double BenchRow::spread() const {
  if (tokens_per_second.empty()) return 0;
  const auto [low, high] = std::minmax_element(tokens_per_second.begin(), tokens_per_second.end());
  return (*high - *low) / median();
}

double BenchRow::limit_share() const { return median_of(quotients(tokens_per_second, limits_per_second)); }

double BenchRow::vector_limit_share() const {
  return median_of(quotients(tokens_per_second, vector_limits_per_second));
}

std::vector<BenchRatio> ratios_of(const std::vector<BenchRow>& rows) {
  std::vector<BenchRatio> ratios;
  for (const BenchRow& row : rows) {
    for (const BenchRow& over : rows) {
      if (!comparable(row, over)) continue;
      ratios.push_back({row.shape, row.recipe, over.recipe, row.test,
                        median_of(quotients(row.tokens_per_second, over.tokens_per_second))});
    }
  }
  return ratios;
}

Json report_json(const BenchReport& report) {
  Json rows = Json::array();
  for (const BenchRow& row : report.rows) {
    Json one{{"shape", row.shape},
             {"recipe", row.recipe},
             {"test", row.test},
             {"tokens_per_second", row.median()},
             {"limit_share", row.limit_share()},
             {"limit", row.limit},
             {"limit_tokens_per_second", median_of(row.limits_per_second)},
             {"spread", row.spread()},
             {"runs", row.tokens_per_second}};
    if (!row.vector_limits_per_second.empty()) one["vector_limit_share"] = row.vector_limit_share();
    rows.push_back(std::move(one));
  }
  Json ratios = Json::array();
  for (const BenchRatio& ratio : ratios_of(report.rows)) {
    ratios.push_back({{"shape", ratio.shape},
                      {"recipe", ratio.recipe},
                      {"over", ratio.over},
                      {"test", ratio.test},
                      {"ratio", ratio.ratio}});
  }
  Json start_ups = Json::array();
  for (const StartUp& start : report.start_ups) {
    start_ups.push_back({{"shape", start.shape}, {"recipe", start.recipe}, {"seconds", start.seconds}});
  }
  return {{"kernels", report.kernels},
          {"threads", report.threads},
          {"processor", report.processor},
          {"repetitions", report.repetitions},
          {"limits", limits_json(report.limits)},
          {"best_limits", limits_json(report.best_limits)},
          {"rows", std::move(rows)},
          {"ratios", std::move(ratios)},
          {"start_up", std::move(start_ups)}};
}

std::string report_text(const BenchReport& report) {
  std::string text = fmt::format("kernels   {}, {} thread{}\nprocessor {}\n", report.kernels, report.threads,
                                 report.threads == 1 ? "" : "s", report.processor);
  text += fmt::format("limits    {}\n          median of {} measurements during the run; the best: {}\n\n",
                      limits_text(report.limits), report.limit_count, limits_text(report.best_limits));
  const auto percent = [](double share) { return fmt::format("{:.1f}%", 100 * share); };
  const bool has_matrix_unit = std::any_of(report.rows.begin(), report.rows.end(),
                                           [](const BenchRow& row) { return !row.vector_limits_per_second.empty(); });
  std::vector<std::string> header{"shape", "recipe", "test", "t/s", "spread", "limit", "share of limit"};
  if (has_matrix_unit) header.emplace_back("without matrix unit");
  Table table(std::move(header));
  for (const BenchRow& row : report.rows) {
    std::vector<std::string> cells{row.shape,
                                   row.recipe,
                                   row.test,
                                   number(row.median()),
                                   percent(row.spread()),
                                   std::string(row.limit),
                                   percent(row.limit_share())};
    if (has_matrix_unit) cells.push_back(percent(row.vector_limit_share()));
    table.add_row(std::move(cells));
  }
  text += table.text();
  if (const auto ratios = ratios_of(report.rows); !ratios.empty()) text += fmt::format("\n{}", ratios_text(ratios));
  if (!report.start_ups.empty()) {
    Table starts({"shape", "recipe", "load and pack"});
    for (const StartUp& start : report.start_ups) {
      starts.add_row({start.shape, start.recipe, fmt::format("{:.2f} s", start.seconds)});
    }
    text += fmt::format("\n{}", starts.text());
  }
  return text;
}

std::string processor_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (!line.starts_with("model name")) continue;
    const auto colon = line.find(": ");
    if (colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

}  // namespace pq::measure
