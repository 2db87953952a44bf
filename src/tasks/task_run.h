#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "model/language_model.h"
#include "model/recipe.h"
#include "tasks/metrics.h"
#include "tasks/plan.h"
#include "tasks/request.h"
#include "tasks/task.h"

namespace pq::tasks {

/// What one model scored in all tasks.
struct ModelScores {
  std::vector<TaskResult> results;                 ///< one a task
  std::vector<std::vector<DocumentScore>> scores;  ///< [tasks][documents]
  double seconds = 0;                              ///< wall time of the runs, of the slowest rank
};

/// Tasks in the tokens of one tokenizer, for any number of models that have it.
class TaskRun {
 public:
  /// Tokenizes on thread_count() threads. Throws what RequestEncoder throws.
  TaskRun(std::vector<Task> tasks, const Tokenizer& tokenizer, Bos bos, const ModelSpec& spec);

  const std::vector<Task>& tasks() const { return tasks_; }
  bool adds_bos() const { return adds_bos_; }

  /// Under mpirun every rank calls this, runs its own batches and gets all scores: the same digits for any number of
  /// ranks and threads. `recipe` says whether sequences can run beside each other. Throws FormatError for a model whose
  /// logits are not finite, naming the document.
  ModelScores evaluate(LanguageModel& model, const Recipe& recipe) const;

 private:
  struct Place {
    std::size_t task;
    std::size_t document;
    std::size_t prompt;
  };
  void encode(const RequestEncoder& encoder);
  ModelScores gather(std::vector<double> log_likelihoods, std::vector<std::int64_t> greedy) const;

  std::vector<Task> tasks_;
  bool adds_bos_ = false;
  std::vector<RequestGroup> groups_;
  std::vector<Place> places_;  ///< of each request
};

}  // namespace pq::tasks
