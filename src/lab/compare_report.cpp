#include "lab/compare_report.h"

#include <fmt/format.h>

#include "base/table.h"
#include "eval/report.h"

namespace pq::lab {
namespace {

std::string with_deviation(const OverSeeds& value, int decimals, const char* unit = "") {
  const std::string mean = fmt::format("{:.{}f}{}", value.mean, decimals, unit);
  return value.deviation > 0 ? fmt::format("{} ± {:.{}f}", mean, value.deviation, decimals) : mean;
}

}  // namespace

OverSeeds CompareReport::measure(const ComparedRow& row, std::size_t pass, Measure what) const {
  std::vector<double> values;
  for (const ComparedRun& run : row.runs) values.push_back(run.results[pass].*what);
  return over_seeds(values);
}

OverSeeds CompareReport::quantize_seconds(const ComparedRow& row) const {
  std::vector<double> values;
  for (const ComparedRun& run : row.runs) values.push_back(run.quantize_seconds);
  return over_seeds(values);
}

std::vector<OverSeeds> CompareReport::task_figures(const ComparedRow& row) const {
  std::vector<std::vector<double>> values(tasks.header().size());
  for (const ComparedRun& run : row.runs) {
    const std::vector<double> figures = tasks.figures(run.evaluation);
    for (std::size_t i = 0; i < values.size(); ++i) values[i].push_back(figures[i]);
  }
  std::vector<OverSeeds> figures;
  for (const std::vector<double>& one : values) figures.push_back(over_seeds(one));
  return figures;
}

Json CompareReport::row_json(const ComparedRow& row, std::size_t pass) const {
  const ComparedRun& first = row.runs.front();
  Json line{{"name", row.name},
            {"activation", row.activation},
            {"recipe", row.quantized ? row.recipe().name : "fp16"},
            {"precision", row.quantized ? precision_name(row.recipe()) : "FP16"},
            {"prefix_text", first.prefix_text}};
  if (has_text()) line.update(eval::result_json(first.results[pass], true));
  line["quantize_seconds"] = quantize_seconds(row).mean;
  line["bits_per_weight"] = row.bits_per_weight ? Json(*row.bits_per_weight) : Json();
  if (row.tokens_per_second) line["tokens_per_second"] = *row.tokens_per_second;
  if (pass == 0) line.update(tasks.row_json(first.evaluation));
  if (seeds == 1) return line;
  // Over the seeds: means in the place of the first one's, and how far they lie apart.
  using Result = eval::ComparisonResult;
  const std::pair<const char*, double Result::*> measures[] = {{"perplexity", &Result::perplexity},
                                                               {"mean_nll", &Result::mean_nll},
                                                               {"kl_divergence", &Result::kl_divergence},
                                                               {"top1_agreement", &Result::top1_agreement}};
  for (const auto& [key, what] : measures) {
    if (!has_text()) break;
    const OverSeeds value = measure(row, pass, what);
    line[key] = value.mean;
    line[std::string(key) + "_deviation"] = value.deviation;
  }
  line["seeds"] = Json::array();
  for (const ComparedRun& run : row.runs) {
    Json one{{"seed", run.recipe.seed}, {"prefix_text", run.prefix_text}, {"quantize_seconds", run.quantize_seconds}};
    if (has_text()) one.update(eval::result_json(run.results[pass], true));
    if (pass == 0) one.update(tasks.row_json(run.evaluation));
    line["seeds"].push_back(std::move(one));
  }
  return line;
}

/// What one length gave: of the unquantized model at the top, of all in `rows`.
Json CompareReport::pass_json(std::size_t pass) const {
  const eval::ComparisonResult& first = rows.front().runs.front().results[pass];
  Json json = eval::pass_json(text, pass, first);
  json.update(eval::result_json(first, true));
  json["rows"] = rows_json(pass);
  return json;
}

Json CompareReport::rows_json(std::size_t pass) const {
  Json json = Json::array();
  for (const ComparedRow& row : rows) json.push_back(row_json(row, pass));
  return json;
}

Json CompareReport::json(const std::string& record) const {
  Json json{{"model", model}, {"calibration", calibration}};
  if (has_text()) json["text"] = text.path;
  json.update(tasks.settings_json());
  if (!record.empty()) json["record"] = record;
  if (!speed_test.empty()) json["speed_test"] = speed_test;
  if (has_text()) {
    json.update(pass_json(0));
  } else {
    json["rows"] = rows_json(0);
  }
  for (std::size_t pass = 0; text.lengths.size() > 1 && pass < text.lengths.size(); ++pass)
    json["lengths"].push_back(pass_json(pass));
  return json;
}

std::string CompareReport::described(const std::string& text_name) const {
  eval::EvaluationText named = text;
  named.path = text_name;
  std::string words = fmt::format("calibration: {}; ", calibration);
  if (has_text()) {
    words =
        fmt::format("{}; {}distances from FP16{}; ", eval::describe_passes(named, rows.front().runs.front().results),
                    words, text.lengths.size() == 1 ? "" : fmt::format(" at {}", text.lengths.back()));
  }
  words += "seconds to quantize";
  if (seeds > 1) words += fmt::format("; mean ± standard deviation over {} seeds", seeds);
  return words;
}

/// Perplexity of every length, then the distances at the last one; nothing of both without a text.
std::string CompareReport::table() const {
  using Result = eval::ComparisonResult;
  std::vector<std::string> header{"recipe", "step", "activation"};
  if (ablates_prefix) header.emplace_back("prefix");
  for (const std::int64_t length : text.lengths)
    header.push_back(text.lengths.size() == 1 ? "perplexity" : fmt::format("perplexity {}", length));
  if (has_text()) header.insert(header.end(), {"KL divergence", "top-1"});
  const std::vector<std::string> task_names = tasks.header();
  header.insert(header.end(), task_names.begin(), task_names.end());
  header.emplace_back("seconds");
  Table lines(header);
  const std::size_t passes = text.lengths.size();
  for (const ComparedRow& row : rows) {
    std::vector<std::string> cells{row.quantized ? precision_name(row.recipe()) : "FP16",
                                   row.quantized        ? row.name
                                   : row.name == "FP16" ? ""
                                                        : "+ prefix",
                                   row.quantized ? row.activation : "-"};
    const std::string& prefix = row.runs.front().prefix_text;
    if (ablates_prefix) cells.push_back(prefix.empty() ? "-" : prefix);
    for (std::size_t pass = 0; pass < passes; ++pass)
      cells.push_back(with_deviation(measure(row, pass, &Result::perplexity), 2));
    if (has_text()) {
      cells.push_back(with_deviation(measure(row, passes - 1, &Result::kl_divergence), 4));
      OverSeeds agreement = measure(row, passes - 1, &Result::top1_agreement);
      agreement = {100 * agreement.mean, 100 * agreement.deviation};
      cells.push_back(with_deviation(agreement, 1, "%"));
    }
    if (row.runs.size() == 1) {
      const std::vector<std::string> task_cells = tasks.cells(row.runs.front().evaluation);
      cells.insert(cells.end(), task_cells.begin(), task_cells.end());
    } else {
      for (const OverSeeds& figure : task_figures(row)) cells.push_back(with_deviation(figure, 2));
    }
    cells.push_back(fmt::format("{:.1f}", quantize_seconds(row).mean));
    lines.add_row(std::move(cells));
  }
  return lines.text() + described(text.path) + "\n";
}

}  // namespace pq::lab
