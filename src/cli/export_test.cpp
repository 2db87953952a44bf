#include <gmock/gmock.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "cli/cli_for_test.h"

namespace pq {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class ExportVerb : public Cli {
 protected:
  /// What an export of the sample model, which is not quantized, to this target says.
  std::string error(const std::string& target, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments{"export", sample, "--to", target, "-o", out_};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.code(), 2);
    EXPECT_EQ(std::count(outcome.error.begin(), outcome.error.end(), '\n'), 1);
    EXPECT_FALSE(fs::exists(out_));
    return outcome.error;
  }

  const std::string out_ = (folder_ / "model.gguf").string();
};

TEST_F(ExportVerb, SaysWhatItCannotDo) {
  EXPECT_THAT(error("ggu"), HasSubstr("did you mean 'gguf'?"));
  EXPECT_THAT(error("gguf"), HasSubstr("is not a checkpoint that this program quantized"));
  EXPECT_THAT(run({"help", "export"}).out, AllOf(HasSubstr("--prefix-only"), HasSubstr("--llama-state-version")));
}

TEST_F(ExportVerb, FlagsOfTheOtherTargetAreRefusedByName) {
  const std::vector<std::vector<std::string>> of_gguf{{"--prefix-only"},
                                                      {"--beside", "x.gguf"},
                                                      {"--llama-state-version", "2"},
                                                      {"--no-prefix-state"},
                                                      {"--name", "x"}};
  for (const auto& flag : of_gguf) {
    EXPECT_THAT(error("compressed-tensors", flag), HasSubstr(flag[0] + ": is for --to gguf"));
  }
  for (const auto& flag : {std::vector<std::string>{"--no-prefix"}, {"--measure", "x.txt"}}) {
    EXPECT_THAT(error("gguf", flag), HasSubstr(flag[0] + ": is for --to compressed-tensors"));
  }
  for (const char* target : {"gguf", "compressed-tensors"}) {
    EXPECT_THAT(error(target, {"--round-scales"}), HasSubstr("is not a checkpoint that this program quantized"));
  }
}

}  // namespace
}  // namespace pq
