#include "tasks/task_run.h"

#include <fmt/format.h>

#include <array>
#include <cmath>

#include "base/communicator.h"
#include "base/error.h"
#include "base/index.h"
#include "base/log.h"
#include "base/parallel_for.h"
#include "base/phase_timer.h"
#include "base/progress.h"
#include "base/stopwatch.h"
#include "eval/softmax.h"
#include "eval/token_scores.h"
#include "model/block_formats.h"
#include "model/token_range.h"

namespace pq::tasks {
namespace {

Together together_for(const LanguageModel& model, const Recipe& recipe) {
  if (has_scales_of_a_call(recipe)) return Together::alone;
  return model.shares_stems() ? Together::stems : Together::equal;
}

/// The scores of one batch, added to those of all requests.
void run_batch(LanguageModel& model, std::span<const PlannedFamily> planned, std::span<const std::size_t> batch,
               std::vector<double>& log_likelihoods, std::vector<std::int64_t>& greedy) {
  std::vector<SequenceFamily> families;
  for (const std::size_t member : batch) families.push_back(planned[member].family);
  const auto rows = model.run_families(families);
  std::vector<eval::TokenQuery> queries;
  std::vector<std::size_t> requests;
  std::size_t first_branch = 0;
  for (const std::size_t member : batch) {
    for (const PlannedFamily::Scored& scored : planned[member].scored) {
      const std::vector<std::int64_t>& of_branch = rows[first_branch + scored.branch];
      const std::size_t unused = of_branch.size() - scored.targets.size();
      for (std::size_t i = 0; i < scored.targets.size(); ++i) {
        queries.push_back({of_branch[unused + i], scored.targets[i]});
        requests.push_back(scored.request);
      }
      greedy[scored.request] = 1;
    }
    first_branch += planned[member].family.branches.size();
  }
  const std::vector<eval::TokenScore> scores = eval::token_scores(model, queries);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    log_likelihoods[requests[i]] += scores[i].log_probability;
    if (!scores[i].greedy) greedy[requests[i]] = 0;
  }
}

}  // namespace

TaskRun::TaskRun(std::vector<Task> tasks, const Tokenizer& tokenizer, Bos bos, const ModelSpec& spec)
    : tasks_(std::move(tasks)) {
  const RequestEncoder encoder(tokenizer, bos, spec.max_positions);
  adds_bos_ = encoder.adds_bos();
  const PhaseTimer timer("tokenize");
  encode(encoder);
  for (const RequestGroup& group : groups_) {
    for (std::size_t i = 0; i < group.requests.size(); ++i) {
      for (const auto* tokens : {group.requests[i].input.get(), &group.requests[i].targets}) {
        const Place& place = places_[group.first + i];
        for (const std::int32_t token : *tokens) {
          check_token(token, spec, tasks_[place.task].documents[place.document].where);
        }
      }
    }
  }
}

void TaskRun::encode(const RequestEncoder& encoder) {
  for (std::size_t t = 0; t < tasks_.size(); ++t) {
    const Task& task = tasks_[t];
    std::vector<std::vector<Request>> encoded(task.documents.size());
    parallel_for(encoded.size(), 4, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) {
        const Document& document = task.documents[i];
        encoded[i] = task.row->scoring == Scoring::pages ? encoder.encode_page(document) : encoder.encode(document);
      }
    });
    std::int64_t truncated = 0;
    for (std::size_t i = 0; i < encoded.size(); ++i) {
      // The documents of a subject stand behind the same examples.
      const bool joins = !task.subject.empty() && i > 0;
      if (!joins) groups_.push_back({{}, places_.size()});
      bool cut = false;
      for (std::size_t prompt = 0; prompt < encoded[i].size(); ++prompt) {
        places_.push_back({t, i, task.row->scoring == Scoring::pages ? 0 : prompt});
        cut = cut || encoded[i][prompt].truncated;
        groups_.back().requests.push_back(std::move(encoded[i][prompt]));
      }
      truncated += cut ? 1 : 0;
    }
    if (truncated > 0) {
      log_warning("{}: {} of {} documents are longer than the model's context: cut from the left", task.name, truncated,
                  task.documents.size());
    }
  }
}

ModelScores TaskRun::gather(std::vector<double> log_likelihoods, std::vector<std::int64_t> greedy) const {
  Communicator& world = Communicator::world();
  world.sum(std::span(log_likelihoods));  // of each request one rank alone has a score
  world.sum(std::span(greedy));
  ModelScores all;
  for (const Task& task : tasks_) {
    std::vector<DocumentScore>& scores = all.scores.emplace_back(task.documents.size());
    for (std::size_t i = 0; i < scores.size(); ++i) {
      scores[i].log_likelihoods.resize(task.documents[i].prompts.size());
      scores[i].greedy.assign(task.documents[i].prompts.size(), true);
    }
  }
  for (const RequestGroup& group : groups_) {
    for (std::size_t i = 0; i < group.requests.size(); ++i) {
      const Place& place = places_[group.first + i];
      const double score = log_likelihoods[group.first + i];
      if (!std::isfinite(score)) {
        throw FormatError(tasks_[place.task].documents[place.document].where,
                          "the model's logits for it are not finite", eval::overflow_remedy);
      }
      DocumentScore& document = all.scores[place.task][place.document];
      document.log_likelihoods[place.prompt] += score;
      document.greedy[place.prompt] = document.greedy[place.prompt] && greedy[group.first + i] != 0;
      document.truncated += group.requests[i].truncated ? 1 : 0;
    }
  }
  for (std::size_t t = 0; t < tasks_.size(); ++t) all.results.push_back(task_result(tasks_[t], all.scores[t]));
  return all;
}

ModelScores TaskRun::evaluate(LanguageModel& model, const Recipe& recipe) const {
  const Stopwatch watch;
  Communicator& world = Communicator::world();
  const Together together = together_for(model, recipe);
  const std::vector<PlannedFamily> families = plan_families(groups_, together);
  const auto batches = plan_batches(families, together, model.family_tokens());
  const auto tokens_of = [&](const std::vector<std::size_t>& batch) {
    std::size_t tokens = 0;
    for (const std::size_t member : batch) tokens += index(families[member].family.tokens());
    return tokens;
  };
  // Batches go round the ranks, so that each gets short and long ones.
  const auto is_own = [&](std::size_t batch) { return static_cast<int>(batch % index(world.size())) == world.rank(); };
  std::size_t own_tokens = 0;
  for (std::size_t i = 0; i < batches.size(); ++i) own_tokens += is_own(i) ? tokens_of(batches[i]) : 0;
  std::vector<double> log_likelihoods(places_.size());
  std::vector<std::int64_t> greedy(places_.size());
  {
    Progress progress("tasks", own_tokens);
    for (std::size_t i = 0; i < batches.size(); ++i) {
      if (!is_own(i)) continue;
      run_batch(model, families, batches[i], log_likelihoods, greedy);
      progress.advance(tokens_of(batches[i]));
    }
  }
  ModelScores scores = gather(std::move(log_likelihoods), std::move(greedy));
  std::array seconds{watch.seconds()};
  world.max(std::span<double>(seconds));
  scores.seconds = seconds[0];
  return scores;
}

}  // namespace pq::tasks
