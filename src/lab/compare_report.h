#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "eval/evaluation_text.h"
#include "lab/compare_rows.h"
#include "report/page.h"
#include "tasks/evaluation.h"

namespace pq::lab {

/// What `pq compare` found out, in the three ways that it is told.
struct CompareReport {
  std::string model;                 ///< as the user named it
  std::string calibration;           ///< what it was calibrated on
  const eval::EvaluationText& text;  ///< without a path: tasks alone
  const tasks::Evaluation& tasks;
  const std::vector<ComparedRow>& rows;  ///< all of them measured; the first is the unquantized model
  int seeds = 1;
  bool ablates_prefix = false;
  std::string speed_test = {};  ///< what tokens a second are of; empty: none are known

  /// docs/json.md. `record`: the tasks' file, or empty.
  Json json(const std::string& record) const;
  /// For the terminal.
  std::string table() const;
  /// Charts with error bars over the seeds, and the table to copy.
  report::Page page() const;

 private:
  using Measure = double eval::ComparisonResult::*;
  OverSeeds measure(const ComparedRow& row, std::size_t pass, Measure what) const;
  OverSeeds quantize_seconds(const ComparedRow& row) const;
  std::vector<OverSeeds> task_figures(const ComparedRow& row) const;
  bool has_text() const { return !text.path.empty(); }

  /// A figure that every row has, as charts show it: its deviation is the error bar.
  struct Charted {
    std::string name;  ///< "perplexity"
    std::string unit;
    bool larger_is_better = false;
    std::function<OverSeeds(const ComparedRow&)> of;
  };
  /// At the last of the text's lengths.
  Charted of_text(std::string name, std::string unit, Measure what) const;
  Charted perplexity() const { return of_text("perplexity", "", &eval::ComparisonResult::perplexity); }
  Charted divergence() const { return of_text("KL divergence", "nats", &eval::ComparisonResult::kl_divergence); }
  /// In percent, with its standard error, or over seeds their deviation. Nothing without tasks that have one.
  std::optional<Charted> accuracy() const;

  Json row_json(const ComparedRow& row, std::size_t pass) const;
  Json pass_json(std::size_t pass) const;
  Json rows_json(std::size_t pass) const;
  /// What was measured, on `text_name` where there is a text.
  std::string described(const std::string& text_name) const;

  std::string finding() const;
  std::string finding(const Charted& what) const;
  report::Figure steps_chart(std::string id, const Charted& what, bool with_unquantized) const;
  report::Figure ablation_chart(std::string id, const Charted& what) const;
  /// Every row's, from zero on.
  report::Figure accuracy_chart(const Charted& what) const;
  /// Against what a recipe costs (bits) or gives (speed).
  report::Figure trade_chart(std::string id, const Charted& what, bool speed) const;
  report::Section trade_section(const std::optional<Charted>& accuracies) const;
  report::Table copy_table() const;
};

}  // namespace pq::lab
