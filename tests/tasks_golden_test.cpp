// Tasks against what lm-evaluation-harness computes (tests/goldens/lm_eval_goldens.py).
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/hash.h"
#include "base/index.h"
#include "base/json.h"
#include "eval/token_scores.h"
#include "runtime/model.h"
#include "runtime/runtime_model.h"
#include "tasks/metrics.h"
#include "tasks/request.h"
#include "tasks/task.h"
#include "tasks/task_run.h"

namespace pq::tasks {
namespace {

namespace fs = std::filesystem;

const fs::path goldens = fs::path(PQ_SOURCE_DIR) / "tests" / "goldens" / "tasks";
const fs::path sample = fs::path(PQ_SOURCE_DIR) / "examples" / "sample-model";
const fs::path shared = fs::path(PQ_SOURCE_DIR) / ".." / "shared" / "data";
constexpr double tolerance = 1e-3;  // nats, of sums over 1 to 60 tokens in float32

/// The documents that a golden speaks of.
struct Source {
  Json golden;
  fs::path directory;
  fs::path wikitext;
  std::int64_t limit;
};

std::unique_ptr<runtime::RuntimeModel> load(const std::string& name) {
  runtime::ModelOptions options;
  options.float_attention = true;
  const fs::path path = name == "sample-model" ? sample : goldens / name;
  return std::make_unique<runtime::RuntimeModel>(runtime::Model::load(path.string(), options));
}

std::vector<Task> tasks_of(const Source& source, const Json& run) {
  TaskChoice choice{.names = {},
                    .directory = source.directory,
                    .mmlu_shots = run["shots"].get<int>(),
                    .limit = source.limit,
                    .wikitext = source.wikitext};
  for (const auto& [name, task] : run["tasks"].items()) {
    if (name != "mmlu") choice.names.push_back(name);
  }
  std::vector<Task> tasks = load_tasks(choice);
  for (Task& task : tasks) {
    const std::size_t known = run["tasks"][task.name]["log_likelihoods"].size();
    if (task.documents.size() > known) task.documents.resize(known);  // fewer pages than documents
  }
  return tasks;
}

void expect_requests(const Source& source, const Json& run, const Task& task) {
  const std::string shots = std::to_string(run["shots"].get<int>());
  const bool whole = source.golden.contains("requests");
  const Json& all = source.golden[whole ? "requests" : "request_hashes"][shots];
  if (!all.contains(task.name)) return;
  const Json& expected = all[task.name];
  ASSERT_EQ(expected.size(), task.documents.size()) << task.name;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    std::string joined;
    Json strings = Json::array();
    for (const Prompt& prompt : task.documents[i].prompts) {
      strings.push_back({prompt.context, prompt.continuation});
      joined += prompt.context + '\0' + prompt.continuation + '\0';
    }
    EXPECT_EQ(whole ? strings : Json(fmt::format("{:016x}", fnv1a(joined))), expected[i])
        << task.documents[i].where << ' ' << strings.dump();
  }
}

void expect_scores(const Json& expected, const Task& task, const std::vector<DocumentScore>& scores) {
  const Json& sums = expected["log_likelihoods"];
  ASSERT_EQ(sums.size(), scores.size()) << task.name;
  std::size_t other_greedy = 0;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (task.row->scoring == Scoring::pages) {  // of hundreds of tokens
      EXPECT_NEAR(scores[i].log_likelihoods[0], sums[i].get<double>(), 2e-2) << task.documents[i].where;
      continue;
    }
    ASSERT_EQ(sums[i].size(), scores[i].log_likelihoods.size());
    const std::string greedy = expected["greedy"][i].get<std::string>();
    for (std::size_t choice = 0; choice < sums[i].size(); ++choice) {
      EXPECT_NEAR(scores[i].log_likelihoods[choice], sums[i][choice].get<double>(), tolerance)
          << task.documents[i].where << " choice " << choice;
      if (scores[i].greedy[choice] != (greedy[choice] == '1')) ++other_greedy;
    }
    if (expected.contains("gold")) {
      EXPECT_EQ(task.documents[i].gold, expected["gold"][i].get<std::size_t>());
    }
  }
  EXPECT_LE(other_greedy, scores.size() / 200) << task.name;  // two tokens that are equally likely
}

void expect_metrics(const Json& expected, const TaskResult& result) {
  for (const auto& [name, value] : expected["metrics"].items()) {
    const auto near = [&](double actual, double bound) {
      EXPECT_NEAR(actual, value.get<double>(), bound) << result.name << ' ' << name;
    };
    const double one_thousandth = 1e-3 * std::fabs(value.get<double>());
    if (name == "acc") near(result.acc->value, 1e-9);
    if (name == "acc_stderr") near(result.acc->standard_error, 1e-9);
    if (name == "acc_norm") near(result.acc_norm->value, 1e-9);
    if (name == "acc_norm_stderr") near(result.acc_norm->standard_error, 1e-9);
    if (name == "perplexity") near(result.perplexity->value, one_thousandth);
    if (name == "word_perplexity") near(*result.word_perplexity, one_thousandth);
    if (name == "byte_perplexity") near(*result.byte_perplexity, one_thousandth);
    if (name == "bits_per_byte") near(*result.bits_per_byte, one_thousandth);
  }
}

void expect_golden(const Source& source, const std::function<bool(const Json& run)>& wanted) {
  const Tokenizer tokenizer = Tokenizer::load(sample);
  for (const Json& run : source.golden["runs"]) {
    if (!wanted(run)) continue;
    SCOPED_TRACE(fmt::format("{} bos {} shots {}", run["model"].dump(), run["bos"].dump(), run["shots"].dump()));
    const auto model = load(run["model"].get<std::string>());
    std::vector<Task> tasks = tasks_of(source, run);
    for (const Task& task : tasks) {
      if (task.row->scoring != Scoring::pages) expect_requests(source, run, task);
    }
    const TaskRun task_run(std::move(tasks), tokenizer, run["bos"].get<bool>() ? Bos::yes : Bos::no, model->spec());
    const ModelScores scores = task_run.evaluate(*model, Recipe{});
    for (std::size_t t = 0; t < task_run.tasks().size(); ++t) {
      const Json& expected = run["tasks"][task_run.tasks()[t].name];
      expect_scores(expected, task_run.tasks()[t], scores.scores[t]);
      expect_metrics(expected, scores.results[t]);
    }
    const auto groups = mmlu_results(task_run.tasks(), scores.results);
    if (!groups.empty()) expect_metrics(run["tasks"]["mmlu"], groups[0]);
  }
}

TEST(TasksGolden, OwnDocuments) {
  expect_golden(
      {read_json_file(goldens / "own.json"), goldens / "documents", goldens / "documents" / "wiki.test.raw", 0},
      [](const Json&) { return true; });
}

// The smaller model without BOS; all runs, which take minutes, with PQ_ALL_GOLDENS: ctest -L slow.
TEST(TasksGolden, SharedDocuments) {
  if (!fs::exists(shared / "tasks")) GTEST_SKIP() << "no " << shared;
  if (!fs::exists(goldens / "shared.json")) GTEST_SKIP() << "no shared.json";
  const Json golden = read_json_file(goldens / "shared.json");
  const auto limit = golden["documents"].get<std::int64_t>();
  expect_golden({golden, shared / "tasks", shared / "wikitext2" / "wiki.test.raw", limit}, [](const Json& run) {
    return std::getenv("PQ_ALL_GOLDENS") != nullptr || (run["model"] == "random-llama" && !run["bos"].get<bool>());
  });
}

TEST(TasksGolden, WikitextPages) {
  const Json golden = read_json_file(goldens / "own.json");
  const auto tasks = load_tasks({.names = {"wikitext"}, .directory = goldens / "documents"});
  ASSERT_EQ(tasks[0].documents.size(), golden["wikitext"].size());
  for (std::size_t i = 0; i < golden["wikitext"].size(); ++i) {
    const Json& page = golden["wikitext"][i];
    EXPECT_EQ(tasks[0].documents[i].words, page["words"].get<std::int64_t>());
    EXPECT_EQ(tasks[0].documents[i].bytes, page["bytes"].get<std::int64_t>());
    EXPECT_EQ(tasks[0].documents[i].prompts[0].continuation, page["target"].get<std::string>());
  }
}

/// Scores of the shots-0 tasks of choices of the first run with a BOS, each request made by `encode`.
double largest_distance(const std::function<Request(const Prompt&)>& encode) {
  const Source source{read_json_file(goldens / "own.json"), goldens / "documents", {}, 0};
  const Json& runs = source.golden["runs"];
  const auto run = std::find_if(runs.begin(), runs.end(),
                                [](const Json& one) { return one["bos"].get<bool>() && one["shots"] == 0; });
  const auto model = load((*run)["model"].get<std::string>());
  double largest = 0;
  for (const Task& task : load_tasks({.names = {"paper"}, .directory = source.directory})) {
    for (std::size_t i = 0; i < task.documents.size(); ++i) {
      for (std::size_t choice = 0; choice < task.documents[i].prompts.size(); ++choice) {
        const Request request = encode(task.documents[i].prompts[choice]);
        const SequenceFamily family{*request.input, {{{}, static_cast<std::int64_t>(request.targets.size())}}};
        const auto rows = model->run_families({&family, 1});
        std::vector<eval::TokenQuery> queries;
        for (std::size_t k = 0; k < request.targets.size(); ++k) queries.push_back({rows[0][k], request.targets[k]});
        double sum = 0;
        for (const eval::TokenScore& score : eval::token_scores(*model, queries)) sum += score.log_probability;
        const double expected = (*run)["tasks"][task.name]["log_likelihoods"][i][choice].get<double>();
        largest = std::max(largest, std::fabs(sum - expected));
      }
    }
  }
  return largest;
}

Request joined(std::vector<std::int32_t> context, const std::vector<std::int32_t>& continuation) {
  context.insert(context.end(), continuation.begin(), continuation.end() - 1);
  return {std::move(context), continuation};
}

TEST(TasksGolden, BrokenVariantsFail) {
  const Tokenizer tokenizer = Tokenizer::load(sample);
  const RequestEncoder encoder(tokenizer, Bos::yes, 512);
  const auto right = [&](const Prompt& prompt) {
    return encoder.encode({.where = "", .prompts = {prompt}, .characters = {}})[0];
  };
  EXPECT_LT(largest_distance(right), tolerance);
  EXPECT_GT(largest_distance([&](const Prompt& prompt) {
              const Request once = right(prompt);
              std::vector<std::int32_t> doubled = *once.input;
              doubled.insert(doubled.begin(), *tokenizer.bos_id());
              return Request(std::move(doubled), once.targets);
            }),
            10 * tolerance);
  EXPECT_GT(largest_distance([&](const Prompt& prompt) {  // context and continuation apart
              return joined(tokenizer.encode(prompt.context, true), tokenizer.encode(prompt.continuation, false));
            }),
            10 * tolerance);
}

// Lengths in bytes: some acc_norm of the goldens' own documents is another one then.
TEST(TasksGolden, LengthsInBytesFail) {
  const Source source{read_json_file(goldens / "own.json"), goldens / "documents", {}, 0};
  int others = 0;
  for (const Json& run : source.golden["runs"]) {
    if (run["shots"] != 0) continue;
    for (Task& task : load_tasks({.names = {"paper"}, .directory = source.directory})) {
      std::vector<DocumentScore> scores;
      for (std::size_t i = 0; i < task.documents.size(); ++i) {
        Document& document = task.documents[i];
        scores.push_back({run["tasks"][task.name]["log_likelihoods"][i].get<std::vector<double>>(), {}, 0});
        for (std::size_t choice = 0; choice < document.prompts.size(); ++choice) {
          document.characters[choice] = static_cast<std::int64_t>(document.prompts[choice].continuation.size()) - 1;
        }
      }
      const TaskResult result = task_result(task, scores);
      const Json& metrics = run["tasks"][task.name]["metrics"];
      if (result.acc_norm && std::fabs(result.acc_norm->value - metrics["acc_norm"].get<double>()) > 1e-9) ++others;
    }
  }
  EXPECT_GT(others, 0);
}

}  // namespace
}  // namespace pq::tasks
