#include "tasks/metrics.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "tasks/mmlu.h"

namespace pq::tasks {
namespace {

std::size_t first_largest(std::span<const double> values) {
  return static_cast<std::size_t>(std::max_element(values.begin(), values.end()) - values.begin());
}

double sum_of(std::span<const double> values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum;
}

void score_choices(TaskResult& result, const Task& task, std::span<const DocumentScore> scores) {
  std::vector<double> right;
  std::vector<double> right_by_length;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const Document& document = task.documents[i];
    right.push_back(likeliest(scores[i]) == document.gold ? 1 : 0);
    right_by_length.push_back(likeliest_by_length(scores[i], document) == document.gold ? 1 : 0);
  }
  result.acc = mean_of(right);
  if (task.row->normalized) result.acc_norm = mean_of(right_by_length);
}

void score_words(TaskResult& result, std::span<const DocumentScore> scores) {
  std::vector<double> right;
  std::vector<double> nll;
  for (const DocumentScore& score : scores) {
    right.push_back(score.greedy[0] ? 1 : 0);
    nll.push_back(-score.log_likelihoods[0]);
  }
  const Mean mean = mean_of(nll);
  result.acc = mean_of(right);
  result.perplexity = Mean{std::exp(mean.value), std::exp(mean.value) * mean.standard_error};
}

void score_pages(TaskResult& result, const Task& task, std::span<const DocumentScore> scores) {
  double nll = 0;
  double words = 0;
  double bytes = 0;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    nll -= scores[i].log_likelihoods[0];
    words += static_cast<double>(task.documents[i].words);
    bytes += static_cast<double>(task.documents[i].bytes);
  }
  result.word_perplexity = std::exp(nll / words);
  result.byte_perplexity = std::exp(nll / bytes);
  result.bits_per_byte = nll / bytes / std::numbers::ln2;
}

}  // namespace

Mean mean_of(std::span<const double> values) {
  const auto count = static_cast<double>(values.size());
  Mean mean{.value = sum_of(values) / count};
  double squares = 0;
  for (const double value : values) squares += (value - mean.value) * (value - mean.value);
  mean.standard_error = std::sqrt(squares / (count - 1)) / std::sqrt(count);
  return mean;
}

std::size_t likeliest(const DocumentScore& score) { return first_largest(score.log_likelihoods); }

std::size_t likeliest_by_length(const DocumentScore& score, const Document& document) {
  std::vector<double> per_character;
  for (std::size_t i = 0; i < score.log_likelihoods.size(); ++i) {
    per_character.push_back(score.log_likelihoods[i] / static_cast<double>(document.characters[i]));
  }
  return first_largest(per_character);
}

TaskResult task_result(const Task& task, std::span<const DocumentScore> scores) {
  TaskResult result{.name = task.name, .documents = static_cast<std::int64_t>(scores.size())};
  for (const DocumentScore& score : scores) result.truncated += score.truncated > 0 ? 1 : 0;
  switch (task.row->scoring) {
    case Scoring::choices:
      score_choices(result, task, scores);
      break;
    case Scoring::last_word:
      score_words(result, scores);
      break;
    case Scoring::pages:
      score_pages(result, task, scores);
      break;
  }
  return result;
}

TaskResult pooled(std::string name, std::span<const TaskResult> parts) {
  TaskResult group{.name = std::move(name)};
  double sum = 0;
  double squares = 0;
  for (const TaskResult& part : parts) {
    const auto count = static_cast<double>(part.documents);
    group.documents += part.documents;
    group.truncated += part.truncated;
    sum += part.acc->value * count;
    squares += (count - 1) * part.acc->standard_error * part.acc->standard_error * count;
  }
  const auto all = static_cast<double>(group.documents);
  group.acc = Mean{sum / all, std::sqrt(squares / (all - static_cast<double>(parts.size())) / all)};
  return group;
}

std::vector<TaskResult> mmlu_results(std::span<const Task> tasks, std::span<const TaskResult> results) {
  const auto of_group = [&](std::string_view group) {
    std::vector<TaskResult> parts;
    for (std::size_t i = 0; i < tasks.size(); ++i) {
      for (const MmluSubject& subject : mmlu_subjects()) {
        const bool wanted = group.empty() || subject.group == group;
        if (wanted && tasks[i].subject == subject.name) parts.push_back(results[i]);
      }
    }
    return parts;
  };
  std::vector<TaskResult> groups;
  const auto add = [&](const std::string& name, std::string_view group) {
    const std::vector<TaskResult> parts = of_group(group);
    if (!parts.empty()) groups.push_back(pooled(name, parts));
  };
  add("mmlu", {});
  for (const std::string_view group : mmlu_groups()) add(std::string("mmlu_").append(group), group);
  return groups;
}

std::optional<Mean> paper_average(std::span<const Task> tasks, std::span<const TaskResult> results) {
  const auto& rows = task_rows();
  const auto wanted = std::count_if(rows.begin(), rows.end(), [](const TaskRow& row) { return row.in_average; });
  std::int64_t there = 0;
  Mean average;
  double variance = 0;
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    if (!tasks[i].row->in_average) continue;
    const Mean& accuracy = *results[i].paper_accuracy();
    average.value += accuracy.value;
    variance += accuracy.standard_error * accuracy.standard_error;
    ++there;
  }
  if (there != wanted) return std::nullopt;
  average.value /= static_cast<double>(wanted);
  average.standard_error = std::sqrt(variance) / static_cast<double>(wanted);
  return average;
}

}  // namespace pq::tasks
