#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "model/language_model.h"
#include "model/recipe.h"
#include "tasks/task_options.h"
#include "tasks/task_run.h"
#include "tokenizer/tokenizer.h"

namespace pq::tasks {

/// The tasks of one command: for one model or several that share a tokenizer. Does nothing where none were asked for.
class Evaluation {
 public:
  /// Reads the documents. `text`: the verb's --text, which the task wikitext reads where there is one. Throws what
  /// TaskOptions::check and load_tasks throw, and SystemError when --output cannot be made.
  Evaluation(TaskOptions options, const std::string& text);

  bool requested() const { return options_.requested(); }
  /// Once, before evaluate().
  void tokenize(const Tokenizer& tokenizer, const ModelSpec& spec);
  /// Scores a model as the row `name`. `recipe_name`: "fp16" or a recipe's.
  void evaluate(LanguageModel& model, const Recipe& recipe, std::string name, std::string recipe_name,
                std::vector<std::int32_t> prefix_token_ids);

  /// Keys of docs/json.md for row `i`: "tasks", "groups", "average", "tasks_seconds".
  Json row_json(std::size_t i) const;
  /// How the tasks were asked: "bos", "bos_added", "mmlu_shots", "limit".
  Json settings_json() const;
  /// One model: a line for each figure, with its standard error. Several: a line for each model.
  std::string table() const;
  /// Columns of a table with a line a model: names of the figures, and those of row `i`, accuracies in percent.
  std::vector<std::string> header() const;
  std::vector<std::string> cells(std::size_t i) const;
  /// The numbers in those cells.
  std::vector<double> figures(std::size_t i) const;
  /// The accuracies of row `i` in one figure: the paper's average where its five tasks are there, else the mean over
  /// all tasks (MMLU is one) that have an accuracy, with the standard error of a mean of independent figures. Empty
  /// where none has.
  std::optional<Mean> average_accuracy(std::size_t i) const;
  /// "average accuracy on 5 tasks", "accuracy on piqa"
  std::string average_name() const;
  /// What the columns are.
  std::string footnote() const;

  /// Adds all that was found to the report of a verb whose rows are these: to `json`, which is that of row 0 and has
  /// the others in "rows", and to `text`, with the record that is written.
  void report(const std::string& model, const Json& engine, Json& json, std::string& text) const;

  /// Writes the record where --output asks for it. `model` as the user named it; `engine`: what ran it. Returns the
  /// path of the record, empty without one. Under mpirun the root alone writes. Throws SystemError.
  std::string write_record(const std::string& model, const Json& engine) const;

 private:
  struct Row {
    std::string name;
    std::string recipe_name;
    Recipe recipe;
    std::vector<std::int32_t> prefix_token_ids;
    ModelScores scores;
  };
  /// A number as it is shown.
  struct Shown {
    double value;
    int decimals;
  };
  std::vector<Shown> shown(std::size_t i) const;
  std::vector<TaskResult> groups(const Row& row) const;
  /// What average_accuracy() is the mean of.
  std::vector<TaskResult> averaged(const Row& row) const;
  Json record_row(const Row& row, std::size_t i) const;

  TaskOptions options_;
  std::vector<Task> loaded_;  // until they are tokenized
  std::unique_ptr<TaskRun> run_;
  std::vector<Row> rows_;
};

}  // namespace pq::tasks
