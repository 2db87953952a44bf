#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tasks/task.h"

namespace pq::tasks {

/// What a model said to one document.
struct DocumentScore {
  std::vector<double> log_likelihoods;  ///< of each prompt, nats, summed over its tokens
  std::vector<bool> greedy;             ///< whether greedy decoding would give it
  std::int64_t truncated = 0;           ///< prompts whose context was cut from the left
};

/// A mean and its standard error, sqrt(sum (x - m)^2 / (n - 1)) / sqrt(n); that is NaN for a single value.
struct Mean {
  double value = 0;
  double standard_error = 0;
};
Mean mean_of(std::span<const double> values);

/// The choice with the largest log-likelihood; the first one on ties.
std::size_t likeliest(const DocumentScore& score);
/// The same of the log-likelihoods a Unicode character of the choice.
std::size_t likeliest_by_length(const DocumentScore& score, const Document& document);

/// The figures of a task, or of a group of tasks.
struct TaskResult {
  std::string name;
  std::int64_t documents = 0;
  std::int64_t truncated = 0;  ///< documents with a prompt whose context was cut from the left
  std::optional<Mean> acc = {};
  std::optional<Mean> acc_norm = {};
  /// exp of the mean negative log-likelihood of a document; its standard error by the delta method: perplexity times
  /// the standard error of that mean (the harness draws resamples with Python's generator).
  std::optional<Mean> perplexity = {};
  std::optional<double> word_perplexity = {};
  std::optional<double> byte_perplexity = {};
  std::optional<double> bits_per_byte = {};

  /// What papers print: acc_norm where the task reports it, else acc; empty for perplexities.
  const std::optional<Mean>& paper_accuracy() const { return acc_norm ? acc_norm : acc; }
};

TaskResult task_result(const Task& task, std::span<const DocumentScore> scores);

/// Mean accuracy weighted by documents, with the pooled standard error sqrt(sum (n_i - 1) se_i^2 n_i / (N - k) / N) of
/// lm-evaluation-harness. `parts` is not empty.
TaskResult pooled(std::string name, std::span<const TaskResult> parts);

/// The figures of `mmlu` and of its groups that have subjects among the results; empty without MMLU.
std::vector<TaskResult> mmlu_results(std::span<const Task> tasks, std::span<const TaskResult> results);

/// The paper's average: (winogrande acc + acc_norm of piqa, arc_easy, arc_challenge and hellaswag) / 5, with the
/// standard error of a mean of independent figures. Empty unless all five are there.
std::optional<Mean> paper_average(std::span<const Task> tasks, std::span<const TaskResult> results);

}  // namespace pq::tasks
