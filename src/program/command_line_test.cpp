#include "program/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <limits>
#include <memory>
#include <new>
#include <stdexcept>
#include <system_error>

#include "base/error.h"
#include "base/parallel_for.h"
#include "base/version.h"
#include "program/output.h"
#include "program/verb_list.h"

namespace pq {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

struct Outcome {
  int code;
  std::string out;
  std::string error;
};

/// A program whose one verb, "inspect", takes a positional and --size, and does `act`.
Outcome run(std::vector<std::string> arguments,
            const std::function<int(const CommonOptions&, const std::string&, int)>& act) {
  const Verb verb{"inspect", [&](CLI::App& app, const CommonOptions& common) -> Action {
                    auto model = std::make_shared<std::string>();
                    auto size = std::make_shared<int>(0);
                    app.add_option("MODEL", *model)->required();
                    app.add_option("--size", *size);
                    return [&common, &act, model, size] { return act(common, *model, *size); };
                  }};
  const Program program{"pq-test", true, {verb}, {}, {}};
  arguments.insert(arguments.begin(), "pq-test");
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  const int code = run_program(program, static_cast<int>(arguments.size()), argv.data());
  std::string error = testing::internal::GetCapturedStderr();
  return {code, testing::internal::GetCapturedStdout(), std::move(error)};
}

int nothing(const CommonOptions&, const std::string&, int) { return 0; }

/// Runs a verb that throws.
template <typename Exception>
Outcome failing(const Exception& exception) {
  return run({"inspect", "m"}, [&](const CommonOptions&, const std::string&, int) -> int { throw exception; });
}

TEST(CommandLine, FlagsReachTheAction) {
  const Outcome outcome = run({"inspect", "m", "--size=7", "--json", "--threads", "1", "--device", "cuda:3"},
                              [](const CommonOptions& common, const std::string& model, int size) {
                                EXPECT_TRUE(common.json);
                                EXPECT_EQ(common.device, "cuda:3");
                                EXPECT_EQ(thread_count(), 1);
                                print_result(model + std::to_string(size));
                                return 3;
                              });
  EXPECT_EQ(outcome.code, 3);
  EXPECT_EQ(outcome.out, "m7");
  EXPECT_EQ(outcome.error, "");
  set_thread_count(0);
}

TEST(CommandLine, MistakesAreOneLineWithExitCodeTwo) {
  const struct {
    std::vector<std::string> arguments;
    std::string message;
  } rows[] = {
      {{"inspct"}, "error: pq: unknown verb 'inspct'; did you mean 'inspect'?\n"},
      {{"xyzzyxyzzy"},
       "error: pq: unknown verb 'xyzzyxyzzy'; one of: run, chat, quantize, compare, eval, analyze, bench, verify, "
       "export, "
       "inspect, tokenize\n"},
      {{"--jsn"}, "error: pq: unknown flag '--jsn'; the verb comes first; see pq --help\n"},
      {{"inspect", "m", "--sise=3"}, "error: pq inspect: unknown flag '--sise'; did you mean '--size'?\n"},
      {{"inspect", "--jsno"}, "error: pq inspect: unknown flag '--jsno'; did you mean '--json'?\n"},
      {{"inspect", "m", "n"}, "error: pq inspect: unexpected argument 'n'; see pq inspect --help\n"},
      {{"inspect"}, "error: pq inspect: MODEL is required; see pq inspect --help\n"},
      {{"inspect", "m", "--size", "many"},
       "error: pq inspect: --size: 'many' is not a whole number; see pq inspect --help\n"},
      {{"inspect", "m", "--device", "gpu"}, "error: --device: 'gpu' is not a device; one of: cpu, cuda, cuda:N\n"},
      {{"inspect", "m", "--device", "cuda:-1"},
       "error: --device: 'cuda:-1' is not a device; one of: cpu, cuda, cuda:N\n"},
  };
  for (const auto& row : rows) {
    const Outcome outcome = run(row.arguments, nothing);
    EXPECT_EQ(outcome.code, 2) << row.message;
    EXPECT_EQ(outcome.error, row.message);
    EXPECT_EQ(outcome.out, "");
  }
  EXPECT_EQ(run({"inspect", "m", "--threads", "-3"}, nothing).code, 2);
  EXPECT_EQ(run({"inspect", "m", "--quiet", "--verbose"}, nothing).code, 2);
}

TEST(CommandLine, ExceptionsBecomeExitCodes) {
  const Outcome format = failing(FormatError("model.safetensors, tensor a.b", "is cut short", "copy it again"));
  EXPECT_EQ(format.code, 2);
  EXPECT_EQ(format.error, "error: model.safetensors, tensor a.b: is cut short; copy it again\n");

  EXPECT_EQ(failing(std::bad_alloc()).code, 2);
  EXPECT_THAT(failing(std::bad_alloc()).error, StartsWith("error: memory: there is not enough"));
  EXPECT_EQ(failing(std::system_error(std::make_error_code(std::errc::permission_denied), "opening")).code, 2);

  const Outcome bug = failing(std::runtime_error("shape mismatch\nException raised from f at g.cpp:3\nframe #0"));
  EXPECT_EQ(bug.code, 1);
  EXPECT_EQ(bug.error, "error: internal error: shape mismatch; please report this with the command that caused it\n");

  const Outcome memory =
      failing(std::runtime_error("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.\nframe"));
  EXPECT_EQ(memory.code, 2);
  EXPECT_THAT(memory.error, HasSubstr("use a smaller model"));
  EXPECT_EQ(failing(42).code, 1);
}

TEST(CommandLine, ControlCharactersOfAHostileNameDoNotReachTheTerminal) {
  EXPECT_EQ(failing(InputError("a\033[2Jb\rc", "is odd", "")).error, "error: a?[2Jb?c: is odd\n");
}

TEST(CommandLine, HelpNeedsNoManual) {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{}, {"--help"}, {"help"}, {"-h"}, {"help", "help"}}) {
    const Outcome outcome = run(arguments, nothing);
    EXPECT_EQ(outcome.code, 0);
    for (const VerbRow& row : verbs()) {
      EXPECT_THAT(outcome.out, HasSubstr("  " + std::string(row.name)));
      EXPECT_THAT(outcome.out, HasSubstr(row.summary));
    }
  }
  const Outcome of_verb = run({"help", "inspect"}, nothing);
  EXPECT_EQ(of_verb.code, 0);
  EXPECT_THAT(of_verb.out, HasSubstr("--size"));
  EXPECT_THAT(of_verb.out, HasSubstr("--threads"));
  EXPECT_EQ(of_verb.out, run({"inspect", "--help"}, nothing).out);
  EXPECT_EQ(run({"help", "inspekt"}, nothing).code, 2);
}

TEST(CommandLine, VerboseSaysWhatTheVerbTook) {
  EXPECT_EQ(run({"inspect", "m"}, nothing).error, "");
  const Outcome outcome = run({"inspect", "m", "-v"}, nothing);
  EXPECT_EQ(outcome.out, "");
  EXPECT_THAT(outcome.error, testing::MatchesRegex("pq inspect: [0-9.]+ s, peak memory [0-9.]+ [KMG]iB\n"));
}

TEST(CommandLine, VersionIsOneLine) {
  EXPECT_EQ(run({"--version"}, nothing).out, "pq-test " + std::string(version()) + "\n");
}

TEST(CommandLine, JsonIsOneLineWithoutNotANumberAndWithoutBrokenText) {
  const Outcome outcome = run({"inspect", "m"}, [](const CommonOptions&, const std::string&, int) {
    print_json({{"perplexity", std::nan("")}, {"ratio", std::numeric_limits<double>::infinity()}, {"text", "a\xff"}});
    return 0;
  });
  EXPECT_EQ(outcome.out, "{\"perplexity\":null,\"ratio\":null,\"text\":\"a\xef\xbf\xbd\"}\n");
}

// A number is what it says, or refused.
TEST(CommandLine, NumbersOutOfRangeAreRefused) {
  struct Values {
    std::int32_t narrow = 0;
    std::int64_t wide = 0;
    std::uint64_t seed = 0;
    double share = 0;
    std::vector<int> several;
  };
  Values values;
  const auto parse = [&](std::vector<std::string> arguments) {
    const Verb verb{"inspect", [&](CLI::App& app, const CommonOptions&) -> Action {
                      app.add_option("--narrow", values.narrow);
                      app.add_option("--wide", values.wide)->check(CLI::Range(-100, 1 << 30));
                      app.add_option("--seed", values.seed);
                      app.add_option("--share", values.share);
                      app.add_option("--several", values.several)->delimiter(',');
                      return [] { return 0; };
                    }};
    const Program program{"pq-test", true, {verb}, {}, {}};
    arguments.insert(arguments.begin(), {"pq-test", "inspect"});
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    values = {};
    testing::internal::CaptureStderr();
    const int code = run_program(program, static_cast<int>(arguments.size()), argv.data());
    const std::string error = testing::internal::GetCapturedStderr();
    return code == 0 ? "" : error;
  };
  EXPECT_THAT(parse({"--narrow", "2147483648"}), HasSubstr("--narrow"));
  EXPECT_THAT(parse({"--narrow", "-2147483649"}), HasSubstr("--narrow"));
  EXPECT_THAT(parse({"--narrow", "9223372036854775808"}), HasSubstr("--narrow: 9223372036854775808 is out of range"));
  EXPECT_THAT(parse({"--wide", "1073741825"}), HasSubstr("--wide"));
  EXPECT_THAT(parse({"--wide", "18446744073709551616"}), HasSubstr("--wide: 18446744073709551616 is out of range"));
  EXPECT_THAT(parse({"--seed", "-1"}), HasSubstr("--seed: '-1' is not a whole number from 0 up"));
  EXPECT_THAT(parse({"--seed", "18446744073709551616"}), HasSubstr("is out of range"));
  EXPECT_THAT(parse({"--share", "1e999"}), HasSubstr("--share: 1e999 is out of range"));
  for (const char* no_number : {"nan", "inf", "-inf", "0x1p3", "1,5", "1e", ""}) {
    EXPECT_THAT(parse({std::string("--share=") + no_number}), testing::Not("")) << no_number;
  }
  for (const char* no_number : {"0x10", "1e3", "1.0", "1 ", " 1", "--", "1'000", "+-1", ""}) {
    EXPECT_THAT(parse({std::string("--wide=") + no_number}), testing::Not("")) << no_number;
    EXPECT_THAT(parse({std::string("--seed=") + no_number}), testing::Not("")) << no_number;
  }
  EXPECT_THAT(parse({"--several", "1,99999999999"}), HasSubstr("--several"));
  EXPECT_THAT(parse({"--threads", "99999999999999999999"}), HasSubstr("--threads"));
  EXPECT_THAT(parse({"--threads", "-1"}), HasSubstr("--threads"));

  EXPECT_EQ(parse({"--narrow", "-2147483648", "--wide", "010", "--seed", "18446744073709551615", "--share", "1.5e-3",
                   "--several", "1,-02,+3"}),
            "");
  EXPECT_EQ(values.narrow, std::numeric_limits<std::int32_t>::min());
  EXPECT_EQ(values.wide, 10);
  EXPECT_EQ(values.seed, std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(values.share, 1.5e-3);
  EXPECT_EQ(values.several, (std::vector<int>{1, -2, 3}));
}

}  // namespace
}  // namespace pq
