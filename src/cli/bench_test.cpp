#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "cli/cli_for_test.h"
#include "kernels/select.h"

namespace pq::cli {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

class BenchProgram : public Cli {
 protected:
  Outcome bench(std::vector<std::string> words, const char* isa = nullptr) const {
    words.insert(words.begin(), "bench");
    if (isa != nullptr) ::setenv("PQ_FORCE_ISA", isa, 1);
    Outcome outcome = run(words);
    if (isa != nullptr) ::unsetenv("PQ_FORCE_ISA");
    return outcome;
  }
};

TEST_F(BenchProgram, MeasuresACheckpoint) {
  const Outcome outcome = bench({sample, "--test", "pp32,tg4,tg4x2@16", "--reps", "2", "--json"});
  ASSERT_EQ(outcome.code(), 0) << outcome.error;
  const Json json = Json::parse(outcome.out);
  ASSERT_EQ(json["rows"].size(), 3U);
  for (const Json& row : json["rows"]) {
    EXPECT_EQ(row["shape"], "sample-model");
    EXPECT_EQ(row["recipe"], "bf16");
    EXPECT_GT(row["tokens_per_second"].get<double>(), 0);
    EXPECT_GT(row["limit_share"].get<double>(), 0);
    EXPECT_EQ(row["runs"].size(), 2U);
  }
  EXPECT_EQ(json["rows"][2]["test"], "tg4x2@16");
  EXPECT_EQ(json["kernels"], kernels::select_kernels().name);
  EXPECT_GT(json["limits"]["read_bytes_per_second"].get<double>(), 0);
  ASSERT_EQ(json["start_up"].size(), 1U);
  EXPECT_GT(json["start_up"][0]["seconds"].get<double>(), 0);
  EXPECT_THAT(outcome.error, HasSubstr("bench: 6/6"));
}

TEST_F(BenchProgram, PrintsATable) {
  const Outcome outcome = bench({sample, "--test", "tg2", "--reps", "1", "-q"}, "scalar");
  ASSERT_EQ(outcome.code(), 0) << outcome.error;
  EXPECT_EQ(outcome.error, "");
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("kernels   scalar"), HasSubstr("limits    int8"),
                                 HasSubstr("share of limit"), HasSubstr("load and pack")));
}

TEST_F(BenchProgram, MistakesAreOneLine) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> rows{
      {{},
       "error: pq bench: there is nothing to measure; give a MODEL, --shape (llama-3.2-1b, smollm-135m, "
       "tinyllama-1.1b, llama-3-8b, qwen3-0.6b, phi-4-mini, gemma-3-270m, gemma-3-1b) or --linear\n"},
      {{"--shape", "llama-3.2-1"},
       "error: --shape llama-3.2-1: there is no shape of this name; did you mean 'llama-3.2-1b'?\n"},
      {{"--shape", "smollm-135m", "--recipe", "w4a8kv4-statik"},
       "error: --recipe w4a8kv4-statik: there is no recipe of this name; did you mean 'w4a8kv4-static'?\n"},
      {{sample, "--recipe", "bf16"},
       "error: --recipe: is for shapes with random weights; a checkpoint has its own; leave it out, or give --shape\n"},
  };
  for (const auto& [arguments, message] : rows) {
    const Outcome outcome = bench(arguments);
    EXPECT_EQ(outcome.code(), 2) << message;
    EXPECT_EQ(outcome.error, message);
    EXPECT_EQ(outcome.out, "");
  }
  const Outcome test = bench({"--shape", "smollm-135m", "--test", "pp5l2"});
  EXPECT_EQ(test.code(), 2);
  EXPECT_THAT(test.error, StartsWith("error: --test pp5l2: is not a test; did you mean 'pp512'? "));
  const Outcome large = bench({"--shape", "llama-3-8b", "--recipe", "bf16", "--test", "tg1x64@1000000"});
  EXPECT_EQ(large.code(), 2);
  EXPECT_THAT(large.error, AllOf(StartsWith("error: llama-3-8b: bf16 takes about "), HasSubstr("are free; choose")));
  const Outcome missing = bench({"/no/such/model"});
  EXPECT_EQ(missing.code(), 2);
  EXPECT_THAT(missing.error, StartsWith("error: /no/such/model"));
}

TEST_F(BenchProgram, AnInstructionSetThatIsNotHere) {
  const Outcome outcome = bench({sample, "--test", "tg1", "--reps", "1"}, "nonsense");
  EXPECT_EQ(outcome.code(), 2);
  EXPECT_THAT(outcome.error, StartsWith("error: PQ_FORCE_ISA: this program has no kernels named 'nonsense'"));
  for (const kernels::KernelTable* table : kernels::kernel_tables()) {
    if (kernels::supported(*table)) continue;
    const Outcome lacking = bench({sample, "--test", "tg1", "--reps", "1"}, table->name);
    EXPECT_EQ(lacking.code(), 2) << table->name;
    EXPECT_THAT(lacking.error, StartsWith("error: PQ_FORCE_ISA: this processor has no ")) << table->name;
  }
}

}  // namespace
}  // namespace pq::cli
