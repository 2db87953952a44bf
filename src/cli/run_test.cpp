// Runs `pq run` and `pq chat` themselves, as a user would.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "base/files.h"
#include "base/json.h"
#include "cli/cli_for_test.h"
#include "tokenizer/tokenizer.h"

namespace pq {
namespace {

using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::MatchesRegex;

class Run : public Cli {
 protected:
  Json json_of(const std::vector<std::string>& arguments, const std::string& input = {}) const {
    const Outcome outcome = run(arguments, input);
    EXPECT_EQ(outcome.code(), 0) << outcome.error;
    return parse_json(outcome.out, "stdout");
  }
  void expect_refused(const std::vector<std::string>& arguments, const std::string& message,
                      const std::string& input = {}) const {
    const Outcome outcome = run(arguments, input);
    EXPECT_EQ(outcome.code(), 2);
    EXPECT_EQ(outcome.out, "");
    EXPECT_EQ(outcome.error, "error: " + message + "\n");
  }
  /// A template that any model can be talked to with.
  std::string chat_template() const {
    const std::string path = (folder_ / "plain.jinja").string();
    std::ofstream(path)
        << "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:";
    return path;
  }
};

TEST_F(Run, StreamsTheContinuation) {
  const Outcome outcome = run({"run", sample, "--prompt", "Once upon a time", "-n", "12"});
  EXPECT_EQ(outcome.code(), 0);
  EXPECT_THAT(outcome.error,
              MatchesRegex("5 prompt tokens at [0-9.]+ tokens/s, 12 tokens generated at [0-9.]+ tokens/s "
                           "\\(--max-tokens reached\\)\n"));
  const Json json = json_of({"run", sample, "--prompt", "Once upon a time", "-n", "12", "--json", "-q"});
  EXPECT_EQ(outcome.out, json["text"].get<std::string>() + "\n");
}

TEST_F(Run, VerboseSaysMoreOnStderrAndTheSameOnStdout) {
  const std::vector<std::string> arguments{"run", sample, "--prompt", "Once upon a time", "-n", "4", "--threads", "2"};
  std::vector<std::string> verbose = arguments;
  verbose.emplace_back("--verbose");
  const Outcome outcome = run(verbose);
  EXPECT_EQ(outcome.code(), 0);
  EXPECT_EQ(outcome.out, run(arguments).out);
  EXPECT_THAT(outcome.error, MatchesRegex("kernels [a-z0-9_-]+, 2 threads\n"
                                          "pack weights: [0-9.]+ s, peak memory [0-9.]+ [KMG]iB\n"
                                          "weights [0-9.]+ [KMG]iB a token, KV cache [0-9.]+ [KM]?i?B a token\n"
                                          "prefill: [0-9.]+ s, peak memory [0-9.]+ [KMG]iB\n"
                                          "decode: [0-9.]+ s, peak memory [0-9.]+ [KMG]iB\n"
                                          "5 prompt tokens at .*\n"
                                          "pq run: [0-9.]+ s, peak memory [0-9.]+ [KMG]iB\n"));
}

TEST_F(Run, JsonHasTextTokensAndSpeeds) {
  const Json json = json_of({"run", sample, "-p", "The day was", "-n", "8", "--json"});
  const Tokenizer tokenizer = Tokenizer::load(sample);
  auto ids = tokenizer.encode("The day was", true);
  EXPECT_EQ(json["prompt_tokens"], ids.size());
  EXPECT_EQ(json["cached_tokens"], 0);
  const std::string before = tokenizer.decode(ids, true);
  for (const Json& id : json["token_ids"]) ids.push_back(id.get<std::int32_t>());
  EXPECT_EQ(before + json["text"].get<std::string>(), tokenizer.decode(ids, true));
  ASSERT_EQ(json["tokens"].size(), 8U);
  EXPECT_EQ(json["tokens"][0], tokenizer.token_text(json["token_ids"][0].get<std::int32_t>()));
  EXPECT_EQ(json["stop_reason"], "max_tokens");
  EXPECT_GT(json["prefill_tokens_per_second"].get<double>(), 0);
  EXPECT_GT(json["decode_tokens_per_second"].get<double>(), 0);
  EXPECT_EQ(json["context"], 512);
}

TEST_F(Run, PromptFromFlagFileAndStdinAreOne) {
  std::ofstream(folder_ / "prompt") << "It was";
  const auto text = [&](const std::vector<std::string>& flags, const std::string& input = {}) {
    std::vector<std::string> arguments{"run", sample, "-n", "6", "-q"};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    return run(arguments, input).out;
  };
  const std::string expected = text({"--prompt", "It was"});
  EXPECT_GT(expected.size(), 6U);
  EXPECT_EQ(text({"--prompt-file", (folder_ / "prompt").string()}), expected);
  EXPECT_EQ(text({}, "It was"), expected);
}

TEST_F(Run, APipeStandsForAFile) {
  const std::string expected = run({"run", sample, "-n", "6", "-q", "--prompt", "It was"}).out;
  const std::string command = fmt::format("{} run {} -n 6 -q --prompt-file ", program, sample);
  EXPECT_EQ(run({"-c", command + "<(printf 'It was')"}, "", "/bin/bash").out, expected);
  EXPECT_EQ(run({"-c", "printf 'It was' | " + command + "/dev/stdin"}, "", "/bin/bash").out, expected);
  EXPECT_EQ(run({"-c", "printf 'It was' | gzip | " + command + "/dev/stdin"}, "", "/bin/bash").out, expected);
  const std::string chat = fmt::format("printf 'Hi\n' | {} chat {} -n 2 -q --chat-template ", program, sample);
  const Outcome from_pipe = run({"-c", chat + "<(printf '{{ messages[-1].content }}')"}, "", "/bin/bash");
  EXPECT_EQ(from_pipe.code(), 0) << from_pipe.error;
  const Outcome folder = run({"run", sample, "--prompt-file", folder_.string()});
  EXPECT_EQ(folder.error, "error: " + folder_.string() + ": is a directory; name a file\n");
}

TEST_F(Run, AFullDiskStopsTheText) {
  for (const std::string flags : {"run -p Once -n 0 --context 100000 --ignore-eos", "run -p Once -n 2 --json"}) {
    const Outcome outcome =
        run({"-c", fmt::format("timeout 20 {} {} {} -q >/dev/full", program, flags, sample)}, "", "/bin/bash");
    EXPECT_EQ(outcome.code(), 2) << flags;
    EXPECT_THAT(outcome.error, EndsWith("error: stdout: cannot write: No space left on device; free some disk space or "
                                        "write elsewhere\n"));
  }
  const Outcome chat = run({"-c", fmt::format("{} chat {} --chat-template chatml -n 2 -q >/dev/full", program, sample)},
                           "Hi\nHi\n", "/bin/bash");
  EXPECT_EQ(chat.code(), 2);
  EXPECT_THAT(chat.error, HasSubstr("No space left on device"));
}

TEST_F(Run, AReaderThatWentAwayEndsTheTextQuietly) {
  const Outcome outcome = run({"-c", fmt::format("set -o pipefail; timeout 20 {} run {} -p Once -n 0 --context 100000 "
                                                 "--ignore-eos | head -c 5 >/dev/null",
                                                 program, sample)},
                              "", "/bin/bash");
  EXPECT_EQ(outcome.code(), 0);
  EXPECT_THAT(outcome.error, MatchesRegex("warning: --context 100000 is beyond [^\n]*\n"));  // and no more
}

TEST_F(Run, AClosedStdoutIsAnErrorAndNoFile) {
  const Outcome outcome = run({"-c", fmt::format("{} run {} -p Once -n 2 -q >&-", program, sample)}, "", "/bin/bash");
  EXPECT_EQ(outcome.code(), 2);
  EXPECT_THAT(outcome.error, HasSubstr("stdout: cannot write: Bad file descriptor"));
}

TEST_F(Run, TheSeedDecides) {
  const auto ids = [&](const std::string& seed) {
    return json_of({"run", sample, "-p", "A", "-n", "20", "--temperature", "1", "--seed", seed, "--json"})["token_ids"];
  };
  EXPECT_EQ(ids("5"), ids("5"));
  EXPECT_NE(ids("5"), ids("6"));
}

TEST_F(Run, StopsAtAStopString) {
  const std::vector<std::string> arguments{"run", sample, "-p", "Once upon a time", "-n", "40", "--json"};
  const auto text = json_of(arguments)["text"].get<std::string>();
  const std::string stop = text.substr(10, 7);  // in the middle of words
  std::vector<std::string> with_stop = arguments;
  with_stop.insert(with_stop.end(), {"--stop", "never in there", "--stop", stop});
  const Json json = json_of(with_stop);
  EXPECT_EQ(json["text"], text.substr(0, text.find(stop)));
  EXPECT_EQ(json["stop_reason"], "stop_string");
  EXPECT_EQ(json["stop_string"], stop);
  EXPECT_LT(json["token_ids"].size(), 40U);
}

TEST_F(Run, StopsWhereTheContextIsFull) {
  const Json json =
      json_of({"run", sample, "-p", "Once upon a time", "-n", "0", "--context", "9", "--json", "--ignore-eos"});
  EXPECT_EQ(json["stop_reason"], "context");
  EXPECT_EQ(json["prompt_tokens"], 5);
  EXPECT_EQ(json["token_ids"].size(), 5U);  // the last one needs no place of its own
}

TEST_F(Run, RefusesBadInput) {
  expect_refused({"run", sample, "-p", "one two three four", "--context", "3"},
                 "--prompt: has 5 tokens, but the context holds 3; shorten it, or raise --context");
  expect_refused({"run", sample}, "stdin: byte 2 is not valid UTF-8; convert the text to UTF-8", "ab\xff");
  expect_refused({"run", sample, "-p", "a", "--temperature", "-1"},
                 "--temperature: -1 is out of range; choose 0 (greedy) or more");
  expect_refused({"run", sample, "-p", "a", "--top-p", "0"},
                 "--top-p: 0 is out of range; choose more than 0 and at most 1 (off)");
  expect_refused({"run", sample, "-p", "a", "--stop", ""}, "--stop: a stop string is empty; leave it out");
  expect_refused({"run", sample, "-p", "a", "-n", "-1"},
                 "--max-tokens: -1 is out of range; choose 0 (no limit) or more");
  const Outcome missing = run({"run", (folder_ / "none").string(), "-p", "a"});
  EXPECT_EQ(missing.code(), 2);
}

TEST_F(Run, CtrlCEndsTheText) {
  const int input = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  const pid_t child =
      start({"run", sample, "-p", "Once", "-n", "0", "--context", "100000", "--ignore-eos", "--json"}, input);
  ::close(input);
  std::this_thread::sleep_for(std::chrono::seconds(2));
  ::kill(child, SIGINT);
  const Outcome outcome = finish(child);
  EXPECT_EQ(outcome.code(), 130) << outcome.error;
  EXPECT_EQ(parse_json(outcome.out, "stdout")["stop_reason"], "interrupted");
}

TEST_F(Run, ChatKeepsWhatWasSaid) {
  const std::vector<std::string> chat{"chat", sample, "--chat-template", chat_template(), "--temperature", "0",
                                      "-n",   "10"};
  std::vector<std::string> with_json = chat;
  with_json.emplace_back("--json");
  const std::string saved = (folder_ / "saved.json").string();
  const Json json = json_of(with_json, "Good morning.\n/save " + saved + "\n\nWho are you?\n/quit\nnever read\n");
  ASSERT_EQ(json["turns"].size(), 2U);
  ASSERT_EQ(json["messages"].size(), 4U);
  EXPECT_EQ(json["messages"][1]["content"], json["turns"][0]["text"]);
  EXPECT_EQ(json["turns"][0]["cached_tokens"], 0);
  // All of the first turn but what tokenizing the answer again may change at its end.
  EXPECT_GT(json["turns"][1]["cached_tokens"].get<int>(), json["turns"][0]["prompt_tokens"].get<int>());

  // The same answer as without a cache: the conversation read back and run in one go.
  std::vector<std::string> resumed = with_json;
  resumed.insert(resumed.end(), {"--resume", saved});
  const Json again = json_of(resumed, "Who are you?\n");
  EXPECT_EQ(again["turns"][0]["cached_tokens"], 0);
  EXPECT_EQ(again["turns"][0]["token_ids"], json["turns"][1]["token_ids"]);

  const Outcome plain = run(chat, "Good morning.\nWho are you?\n");
  EXPECT_EQ(plain.out,
            json["turns"][0]["text"].get<std::string>() + "\n" + json["turns"][1]["text"].get<std::string>() + "\n");
}

TEST_F(Run, ChatForgetsOnReset) {
  const Json json = json_of({"chat", sample, "--chat-template", chat_template(), "--system", "Be brief.",
                             "--temperature", "0", "-n", "5", "--json"},
                            "One.\nTwo.\n/reset\nOne.\n");
  ASSERT_EQ(json["turns"].size(), 3U);
  EXPECT_EQ(json["turns"][2]["token_ids"], json["turns"][0]["token_ids"]);
  EXPECT_EQ(json["messages"].size(), 3U);
  EXPECT_EQ(json["messages"][0], (Json{{"role", "system"}, {"content", "Be brief."}}));
}

TEST_F(Run, ChatRefusesBadInput) {
  expect_refused(
      {"chat", sample},
      sample +
          ": the model comes without a chat template, and its tokens are of no family with a known one; choose "
          "with --chat-template FILE (Jinja), or by name: llama3, chatml, mistral-v0.3, llama2; a model that was "
          "not trained to chat is better used with pq run");
  const std::vector<std::string> chat{"chat", sample, "--chat-template", chat_template(), "--context", "12", "-q"};
  expect_refused(chat, "stdin, line 1: byte 2 is not valid UTF-8; convert the text to UTF-8", "a \xff\n");
  const Outcome outcome = run(chat, "one two three four five six seven eight nine\n");
  EXPECT_EQ(outcome.code(), 2);
  EXPECT_THAT(outcome.error,
              AllOf(HasSubstr("error: stdin, line 1: the conversation has "),
                    HasSubstr(" tokens with it, but the context holds 12; /reset starts anew; or raise --context")));
  std::ofstream(folder_ / "bad.json") << R"({"messages": [{"role": 3}]})";
  expect_refused({"chat", sample, "--chat-template", "chatml", "--resume", (folder_ / "bad.json").string()},
                 (folder_ / "bad.json").string() +
                     ": is no conversation: it lacks a list 'messages' of objects with 'role' and "
                     "'content'; name a file that /save wrote");
  std::ofstream(folder_ / "bad.jinja") << "\n{% if %}";
  expect_refused({"chat", sample, "--chat-template", (folder_ / "bad.jinja").string()},
                 (folder_ / "bad.jinja").string() +
                     ", line 2: unexpected '%}'; mend the chat template, or choose another with "
                     "--chat-template");
}

TEST_F(Run, HelpNeedsNoManual) {
  const Outcome run_help = run({"run", "--help"});
  for (const char* flag :
       {"--prompt", "--prompt-file", "--max-tokens", "--stop", "--context", "--lm-head-bits", "--ignore-eos", "--seed",
        "--temperature", "--top-k", "--top-p", "--min-p", "--repetition-penalty", "Examples:"})
    EXPECT_THAT(run_help.out, HasSubstr(flag));
  const Outcome chat_help = run({"chat", "--help"});
  for (const char* text :
       {"--system", "--chat-template", "--resume", "/reset", "/save FILE", "/quit", "llama3, chatml"})
    EXPECT_THAT(chat_help.out, HasSubstr(text));
}

}  // namespace
}  // namespace pq
