#include "tasks/evaluation.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "base/communicator.h"
#include "base/error.h"
#include "base/files.h"
#include "base/parallel_for.h"
#include "base/table.h"
#include "base/version.h"
#include "tasks/record.h"

namespace pq::tasks {
namespace {

Json result_json(const TaskResult& result) {
  Json json{{"documents", result.documents}};
  const auto add = [&](const std::string& name, const std::optional<Mean>& mean) {
    if (!mean) return;
    json[name] = mean->value;
    json[name + "_stderr"] = mean->standard_error;
  };
  add("acc", result.acc);
  add("acc_norm", result.acc_norm);
  add("perplexity", result.perplexity);
  if (result.word_perplexity) json["word_perplexity"] = *result.word_perplexity;
  if (result.byte_perplexity) json["byte_perplexity"] = *result.byte_perplexity;
  if (result.bits_per_byte) json["bits_per_byte"] = *result.bits_per_byte;
  if (result.truncated > 0) json["truncated"] = result.truncated;
  return json;
}

Json results_json(const std::vector<TaskResult>& results) {
  Json json = Json::object();
  for (const TaskResult& result : results) json[result.name] = result_json(result);
  return json;
}

void add_lines(Table& table, const TaskResult& result) {
  std::string name = result.name;
  std::string documents = std::to_string(result.documents);
  const auto add = [&](std::string_view metric, double value, std::string error) {
    table.add_row({name, documents, std::string(metric), fmt::format("{:.4f}", value), std::move(error)});
    name.clear();
    documents.clear();
  };
  const auto add_mean = [&](std::string_view metric, const std::optional<Mean>& mean) {
    // A single document has none.
    if (mean)
      add(metric, mean->value, std::isnan(mean->standard_error) ? "-" : fmt::format("{:.4f}", mean->standard_error));
  };
  add_mean("acc", result.acc);
  add_mean("acc_norm", result.acc_norm);
  add_mean("perplexity", result.perplexity);
  if (result.word_perplexity) add("word perplexity", *result.word_perplexity, "-");
  if (result.byte_perplexity) add("byte perplexity", *result.byte_perplexity, "-");
  if (result.bits_per_byte) add("bits per byte", *result.bits_per_byte, "-");
}

}  // namespace

Evaluation::Evaluation(TaskOptions options, const std::string& text) : options_(std::move(options)) {
  options_.check();
  if (!requested()) return;
  loaded_ = load_tasks(options_.choice(text));
  if (options_.output.empty()) return;
  std::error_code error;
  std::filesystem::create_directories(options_.output, error);
  if (error) throw SystemError(options_.output, "cannot be made: " + error.message(), "give another --output");
}

void Evaluation::tokenize(const Tokenizer& tokenizer, const ModelSpec& spec) {
  if (requested()) run_ = std::make_unique<TaskRun>(std::move(loaded_), tokenizer, options_.bos_rule(), spec);
}

void Evaluation::evaluate(LanguageModel& model, const Recipe& recipe, std::string name, std::string recipe_name,
                          std::vector<std::int32_t> prefix_token_ids) {
  if (!requested()) return;
  rows_.push_back(
      {std::move(name), std::move(recipe_name), recipe, std::move(prefix_token_ids), run_->evaluate(model, recipe)});
}

std::vector<TaskResult> Evaluation::groups(const Row& row) const {
  return mmlu_results(run_->tasks(), row.scores.results);
}

Json Evaluation::row_json(std::size_t i) const {
  if (!requested()) return Json::object();
  const Row& row = rows_[i];
  Json json{{"tasks", results_json(row.scores.results)}};
  if (const auto all = groups(row); !all.empty()) json["groups"] = results_json(all);
  if (const auto average = paper_average(run_->tasks(), row.scores.results)) {
    json["average"] = average->value;
    json["average_stderr"] = average->standard_error;
  }
  json["tasks_seconds"] = row.scores.seconds;
  return json;
}

Json Evaluation::settings_json() const {
  if (!requested()) return Json::object();
  Json json{{"bos", options_.bos}, {"bos_added", run_->adds_bos()}, {"mmlu_shots", options_.mmlu_shots}};
  json["limit"] = options_.limit > 0 ? Json(options_.limit) : Json();
  return json;
}

std::vector<std::string> Evaluation::header() const {
  std::vector<std::string> names;
  if (!requested()) return names;
  for (const Task& task : run_->tasks()) {
    if (task.subject.empty()) names.push_back(task.name);
    if (task.row->scoring == Scoring::last_word) names.push_back(task.name + " ppl");
  }
  if (rows_.empty()) return names;
  for (const TaskResult& group : groups(rows_[0])) names.push_back(group.name);
  if (paper_average(run_->tasks(), rows_[0].scores.results)) names.emplace_back("average");
  return names;
}

std::vector<Evaluation::Shown> Evaluation::shown(std::size_t i) const {
  std::vector<Shown> figures;
  if (!requested()) return figures;
  const Row& row = rows_[i];
  const auto percent = [&](const Mean& mean) { figures.push_back({100 * mean.value, 2}); };
  for (std::size_t t = 0; t < run_->tasks().size(); ++t) {
    const TaskResult& result = row.scores.results[t];
    if (!run_->tasks()[t].subject.empty()) continue;
    if (result.paper_accuracy()) percent(*result.paper_accuracy());
    if (result.perplexity) figures.push_back({result.perplexity->value, 3});
    if (result.word_perplexity) figures.push_back({*result.word_perplexity, 3});
  }
  for (const TaskResult& group : groups(row)) percent(*group.acc);
  if (const auto average = paper_average(run_->tasks(), row.scores.results)) percent(*average);
  return figures;
}

std::vector<std::string> Evaluation::cells(std::size_t i) const {
  std::vector<std::string> cells;
  for (const Shown& figure : shown(i)) cells.push_back(fmt::format("{:.{}f}", figure.value, figure.decimals));
  return cells;
}

std::vector<double> Evaluation::figures(std::size_t i) const {
  std::vector<double> values;
  for (const Shown& figure : shown(i)) values.push_back(figure.value);
  return values;
}

std::vector<TaskResult> Evaluation::averaged(const Row& row) const {
  const std::vector<Task>& tasks = run_->tasks();
  const bool as_paper = paper_average(tasks, row.scores.results).has_value();
  std::vector<TaskResult> results;
  for (std::size_t t = 0; t < tasks.size(); ++t) {
    const bool counts = as_paper ? tasks[t].row->in_average : tasks[t].subject.empty();
    if (counts && row.scores.results[t].paper_accuracy()) results.push_back(row.scores.results[t]);
  }
  // The first of MMLU's groups is the whole.
  if (const std::vector<TaskResult> all = groups(row); !as_paper && !all.empty()) results.push_back(all.front());
  return results;
}

std::optional<Mean> Evaluation::average_accuracy(std::size_t i) const {
  if (!requested()) return std::nullopt;
  const std::vector<TaskResult> results = averaged(rows_[i]);
  if (results.empty()) return std::nullopt;
  Mean average;
  double variance = 0;
  for (const TaskResult& result : results) {
    average.value += result.paper_accuracy()->value;
    variance += result.paper_accuracy()->standard_error * result.paper_accuracy()->standard_error;
  }
  average.value /= static_cast<double>(results.size());
  average.standard_error = std::sqrt(variance) / static_cast<double>(results.size());
  return average;
}

std::string Evaluation::average_name() const {
  if (!requested() || rows_.empty()) return "accuracy";
  const std::vector<TaskResult> results = averaged(rows_[0]);
  return results.size() == 1 ? "accuracy on " + results[0].name
                             : fmt::format("average accuracy on {} tasks", results.size());
}

std::string Evaluation::footnote() const {
  if (!requested()) return {};
  double largest = 0;
  for (const Row& row : rows_) {
    for (const TaskResult& result : row.scores.results) {
      if (result.paper_accuracy()) largest = std::max(largest, result.paper_accuracy()->standard_error);
    }
  }
  std::string normalized;
  for (const Task& task : run_->tasks()) {
    if (task.row->normalized) normalized += (normalized.empty() ? "" : ", ") + task.name;
  }
  std::string text = "tasks: accuracy in percent";
  if (!normalized.empty()) text += fmt::format(" (acc_norm of {})", normalized);
  if (largest > 0) text += fmt::format(", standard errors up to {:.2f}", 100 * largest);
  text += fmt::format("; BOS {} ({})", run_->adds_bos() ? "added" : "not added", options_.bos);
  const auto& tasks = run_->tasks();
  if (std::any_of(tasks.begin(), tasks.end(), [](const Task& task) { return !task.subject.empty(); })) {
    text += fmt::format("; MMLU {}-shot", options_.mmlu_shots);
  }
  if (options_.limit > 0) text += fmt::format("; the first {} documents", options_.limit);
  return text + "\n";
}

std::string Evaluation::table() const {
  if (!requested()) return {};
  if (rows_.size() > 1) {
    std::vector<std::string> names = header();
    names.insert(names.begin(), "model");
    Table table(names);
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      std::vector<std::string> line = cells(i);
      line.insert(line.begin(), rows_[i].name);
      table.add_row(std::move(line));
    }
    return table.text() + footnote();
  }
  Table table({"task", "documents", "metric", "value", "stderr"});
  const Row& row = rows_[0];
  for (const TaskResult& result : row.scores.results) add_lines(table, result);
  for (const TaskResult& group : groups(row)) add_lines(table, group);
  if (const auto average = paper_average(run_->tasks(), row.scores.results)) {
    table.add_row({"average", "", "paper's", fmt::format("{:.4f}", average->value),
                   fmt::format("{:.4f}", average->standard_error)});
  }
  std::int64_t truncated = 0;
  for (const TaskResult& result : row.scores.results) truncated += result.truncated;
  std::string text = fmt::format("BOS {} (--bos {}); {:.1f} seconds", run_->adds_bos() ? "added" : "not added",
                                 options_.bos, row.scores.seconds);
  if (truncated > 0) text += fmt::format("; {} documents cut from the left to the model's context", truncated);
  return table.text() + text + "\n";
}

void Evaluation::report(const std::string& model, const Json& engine, Json& json, std::string& text) const {
  if (!requested()) return;
  json.update(settings_json());
  for (std::size_t i = 0; i < rows_.size(); ++i) (i == 0 ? json : json["rows"][i - 1]).update(row_json(i));
  text += table();
  const std::string record = write_record(model, engine);
  if (record.empty()) return;
  json["record"] = record;
  text += fmt::format("record: {}\n", record);
}

Json Evaluation::record_row(const Row& row, std::size_t i) const {
  Json json{{"name", row.name},
            {"recipe", row.recipe_name == "fp16" ? Json("fp16") : recipe_to_json(row.recipe)},
            {"seed", row.recipe.seed},
            {"prefix_token_ids", row.prefix_token_ids}};
  json.update(row_json(i));
  return json;
}

std::string Evaluation::write_record(const std::string& model, const Json& engine) const {
  if (!requested() || options_.output.empty()) return {};
  Communicator& world = Communicator::world();
  if (!world.is_root()) return {};
  const RecordName name = new_record_name(options_.output, model);
  Json json{{"pq", version()}, {"model", model}, {"model_xxh3", model_checksum(model)}, {"time", name.time}};
  json["data_xxh3"] = data_json(run_->tasks());
  json["scoring"] = "lm-evaluation-harness 0.4.13, zero-shot prompts as 0.4.2";
  json.update(settings_json());
  json.update(engine);
  json["threads"] = thread_count();
  json["processes"] = world.size();
  json["rows"] = Json::array();
  for (std::size_t i = 0; i < rows_.size(); ++i) json["rows"].push_back(record_row(rows_[i], i));
  for (std::size_t i = 0; i < rows_.size() && options_.log_samples; ++i) {
    const std::string row = rows_.size() == 1 ? rows_[i].name : fmt::format("{}-{}", i, rows_[i].name);
    for (std::size_t t = 0; t < run_->tasks().size(); ++t) {
      const Task& task = run_->tasks()[t];
      write_file_atomically(name.samples(task.name, row), sample_lines(task, rows_[i].scores.scores[t]));
    }
  }
  write_file_atomically(name.results(), json.dump(2) + "\n");
  return name.results().string();
}

}  // namespace pq::tasks
