#include "tasks/metrics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace pq::tasks {
namespace {

const TaskRow& row(std::string_view name) {
  const auto& rows = task_rows();
  return *std::find_if(rows.begin(), rows.end(), [&](const TaskRow& one) { return one.name == name; });
}

DocumentScore score(std::vector<double> log_likelihoods) { return {std::move(log_likelihoods), {false, true}, 0}; }

Document document(std::vector<std::int64_t> characters, std::size_t gold) {
  return {.where = "", .prompts = {}, .characters = std::move(characters), .gold = gold};
}

TEST(Metrics, AccuracyAndStandardError) {
  Task task{"piqa", &row("piqa"), "", "", {document({10, 30}, 0), document({10, 30}, 1), document({10, 30}, 1)}};
  const std::vector<DocumentScore> scores{score({-5, -6}), score({-5, -6}), score({-5, -5})};
  const TaskResult result = task_result(task, scores);
  EXPECT_DOUBLE_EQ(result.acc->value, 1.0 / 3);  // the first of equal ones
  EXPECT_DOUBLE_EQ(result.acc_norm->value, 2.0 / 3);
  EXPECT_NEAR(result.acc->standard_error, std::sqrt((2.0 / 3) / 2) / std::sqrt(3), 1e-12);
}

// A broken variant: lengths in bytes would choose otherwise.
TEST(Metrics, LengthsAreCharacters) {
  EXPECT_EQ(likeliest_by_length(score({-10, -11}), document({4, 5}, 0)), 1U);
  EXPECT_EQ(likeliest_by_length(score({-10, -11}), document({8, 5}, 0)), 0U);
}

TEST(Metrics, PerplexityOfWords) {
  Task task{"lambada_openai", &row("lambada_openai"), "", "", {document({3}, 0), document({3}, 0)}};
  const std::vector<DocumentScore> scores{{{-1.0}, {true}, 0}, {{-3.0}, {false}, 1}};
  const TaskResult result = task_result(task, scores);
  EXPECT_DOUBLE_EQ(result.acc->value, 0.5);
  EXPECT_DOUBLE_EQ(result.perplexity->value, std::exp(2.0));
  EXPECT_NEAR(result.perplexity->standard_error, std::exp(2.0) * std::sqrt(2.0) / std::sqrt(2.0), 1e-12);
  EXPECT_EQ(result.truncated, 1);
}

TEST(Metrics, GroupsAreWeightedByDocuments) {
  const std::vector<TaskResult> parts{{.name = "a", .documents = 10, .acc = Mean{0.5, 0.1}},
                                      {.name = "b", .documents = 30, .acc = Mean{0.9, 0.05}}};
  const TaskResult group = pooled("mmlu", parts);
  EXPECT_DOUBLE_EQ(group.acc->value, 0.8);
  EXPECT_NEAR(group.acc->standard_error, std::sqrt((9 * 0.01 * 10 + 29 * 0.0025 * 30) / 38 / 40), 1e-12);
}

TEST(Metrics, ThePapersAverageNeedsAllFive) {
  std::vector<Task> tasks;
  std::vector<TaskResult> results;
  for (const char* name : {"piqa", "arc_easy", "arc_challenge", "hellaswag", "winogrande"}) {
    EXPECT_FALSE(paper_average(tasks, results)) << name;
    tasks.push_back({name, &row(name), "", "", {}});
    results.push_back({.name = name, .documents = 1, .acc = Mean{0.1, 0.1}, .acc_norm = Mean{0.5, 0.1}});
  }
  results.back().acc_norm.reset();
  const auto average = paper_average(tasks, results);
  ASSERT_TRUE(average);
  EXPECT_DOUBLE_EQ(average->value, (0.5 * 4 + 0.1) / 5);
  EXPECT_NEAR(average->standard_error, 0.1 / std::sqrt(5), 1e-12);
}

}  // namespace
}  // namespace pq::tasks
