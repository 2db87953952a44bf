// pq eval --tasks as a user meets it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

#include "base/json.h"
#include "cli/cli_for_test.h"

namespace pq::cli {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const std::string documents = std::string(PQ_SOURCE_DIR) + "/tests/goldens/tasks/documents";

class EvalTasks : public Cli {
 protected:
  Outcome eval(std::vector<std::string> words, const std::string& directory = documents) const {
    words.insert(words.begin(), {"eval", sample, "--tasks-dir", directory});
    return run(words);
  }
  /// A directory with one file of a task.
  std::string directory_with(const std::string& file, const std::string& text) const {
    const fs::path directory = folder_ / "tasks";
    fs::create_directories(directory);
    std::ofstream(directory / file) << text;
    return directory.string();
  }
  void expect_refusal(const Outcome& outcome, const std::string& text) const {
    EXPECT_EQ(outcome.code(), 2) << outcome.out << outcome.error;
    EXPECT_EQ(std::count(outcome.error.begin(), outcome.error.end(), '\n'), 1) << outcome.error;
    EXPECT_THAT(outcome.error, HasSubstr(text));
    EXPECT_EQ(outcome.out, "");
  }
};

/// Without what no two runs share.
Json without_times(Json json) {
  for (const char* key : {"time", "threads"}) json.erase(key);
  for (Json& row : json["rows"]) row.erase("tasks_seconds");
  return json;
}

TEST_F(EvalTasks, ReportsEveryTask) {
  const Outcome outcome = eval({"--tasks", "paper,mmlu_anatomy,mmlu_humanities_none"});
  expect_refusal(outcome, "\"mmlu_humanities_none\" is no task; did you mean 'mmlu_humanities'?");
  const Outcome all = eval({"--tasks", "paper,mmlu_anatomy,lambada_openai,wikitext", "--bos", "no", "--json"});
  ASSERT_EQ(all.code(), 0) << all.error;
  const Json json = Json::parse(all.out);
  EXPECT_EQ(json["bos"], "no");
  EXPECT_EQ(json["bos_added"], false);
  EXPECT_EQ(json["mmlu_shots"], 0);
  EXPECT_TRUE(json["tasks"]["piqa"]["acc_norm_stderr"].is_number());
  EXPECT_TRUE(json["tasks"]["wikitext"]["word_perplexity"].is_number());
  EXPECT_TRUE(json["tasks"]["lambada_openai"]["perplexity"].is_number());
  EXPECT_FALSE(json["tasks"]["winogrande"].contains("acc_norm"));
  EXPECT_EQ(json["groups"]["mmlu"]["acc"], json["tasks"]["mmlu_anatomy"]["acc"]);
  EXPECT_TRUE(json["average"].is_number());
}

TEST_F(EvalTasks, ARunIsARecordAndComesOutTheSame) {
  std::vector<Json> records;
  std::vector<std::string> samples;
  for (const std::string threads : {"1", "3"}) {
    const std::string output = (folder_ / ("out" + threads)).string();
    const Outcome outcome = eval({"--tasks", "piqa,mmlu_anatomy", "--limit", "5", "--mmlu-shots", "5", "--threads",
                                  threads, "--output", output, "--log-samples", "--json"});
    ASSERT_EQ(outcome.code(), 0) << outcome.error;
    records.push_back(Json::parse(read_text_file(Json::parse(outcome.out)["record"].get<std::string>())));
    for (const auto& entry : fs::directory_iterator(output)) {
      if (entry.path().filename().string().starts_with("samples_sample-model_FP16_piqa_"))
        samples.push_back(read_text_file(entry.path()));
    }
  }
  EXPECT_EQ(without_times(records[0]), without_times(records[1]));
  const Json& record = records[0];
  for (const char* key : {"pq", "model", "model_xxh3", "data_xxh3", "bos", "kernels", "processes", "limit"})
    EXPECT_TRUE(record.contains(key)) << key;
  EXPECT_TRUE(record["data_xxh3"].contains("mmlu_dev.jsonl"));
  EXPECT_EQ(record["rows"][0]["seed"], 0);
  EXPECT_EQ(record["rows"][0]["tasks"]["piqa"]["documents"], 5);
  ASSERT_EQ(samples.size(), 2U);
  EXPECT_EQ(samples[0], samples[1]);
  EXPECT_EQ(std::count(samples[0].begin(), samples[0].end(), '\n'), 5);
  const Json first = Json::parse(samples[0].substr(0, samples[0].find('\n')));
  for (const char* key : {"prompt_hash", "log_likelihoods", "choice", "choice_norm", "gold", "greedy"})
    EXPECT_TRUE(first.contains(key)) << key;
}

TEST_F(EvalTasks, RefusesBadInputInOneLine) {
  expect_refusal(eval({"--tasks", "piqua"}), "\"piqua\" is no task; did you mean 'piqa'?");
  expect_refusal(run({"eval", sample, "--tasks", "piqa"}), "--tasks-dir DIR");
  expect_refusal(eval({"--tasks", "piqa"}, (folder_ / "nowhere").string()), "nowhere: is no directory of task files");
  const std::string good = R"({"goal": "g", "sol1": "a", "sol2": "b", "label": 0})";
  const auto piqa = [&](const std::string& second) {
    return eval({"--tasks", "piqa"}, directory_with("piqa.jsonl", good + "\n" + second + "\n"));
  };
  expect_refusal(piqa("{\"goal\": "), "piqa.jsonl, line 2");
  expect_refusal(piqa("[1]"), "piqa.jsonl, line 2: is no JSON object");
  expect_refusal(piqa(R"({"goal": "g", "sol1": "a", "label": 0})"), "piqa.jsonl, line 2: field `sol2` is missing");
  expect_refusal(piqa(R"({"goal": "g", "sol1": "a", "sol2": "b", "label": 2})"), "piqa.jsonl, line 2: field `label`");
  expect_refusal(piqa(R"({"goal": "g", "sol1": "", "sol2": "b", "label": 1})"), "piqa.jsonl, line 2: field `sol1`");
  expect_refusal(piqa("\xff"), "piqa.jsonl, line 2");
  expect_refusal(eval({"--tasks", "arc_easy"}, directory_with("piqa.jsonl", good)),
                 "has no arc_easy.jsonl, which the task arc_easy reads");
  expect_refusal(eval({"--tasks", "piqa", "--log-samples"}), "--log-samples");
  expect_refusal(run({"eval", sample, "--text", sample + "/README.md", "--limit", "3"}), "--limit");
  expect_refusal(run({"eval", sample}), "--text: is required");
}

TEST_F(EvalTasks, CutsLongContextsFromTheLeftAndSaysSo) {
  std::string goal;
  for (int i = 0; i < 600; ++i) goal += "word ";
  const std::string line = R"({"goal": ")" + goal + R"(", "sol1": "a", "sol2": "b", "label": 0})";
  const Outcome outcome = eval({"--tasks", "piqa", "--json"}, directory_with("piqa.jsonl", line));
  ASSERT_EQ(outcome.code(), 0) << outcome.error;
  EXPECT_THAT(outcome.error, HasSubstr("piqa: 1 of 1 documents are longer than the model's context"));
  EXPECT_EQ(Json::parse(outcome.out)["tasks"]["piqa"]["truncated"], 1);
}

}  // namespace
}  // namespace pq::cli
