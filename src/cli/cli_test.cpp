// Runs the `pq` program itself, as a user would.
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/json.h"
#include "cli/cli_for_test.h"
#include "io/block_tensors.h"
#include "io/quantized_checkpoint.h"

namespace pq {
namespace {

using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

/// What `pq` shows on a terminal of its own.
std::string run_on_terminal(std::vector<std::string> words, const std::map<std::string, std::string>& environment) {
  words.insert(words.begin(), program);
  std::vector<char*> argv;
  std::transform(words.begin(), words.end(), std::back_inserter(argv), [](std::string& word) { return word.data(); });
  argv.push_back(nullptr);
  int terminal = -1;
  const pid_t child = ::forkpty(&terminal, nullptr, nullptr, nullptr);
  if (child == 0) {
    ::unsetenv("NO_COLOR");
    ::setenv("TERM", "xterm", 1);
    for (const auto& [name, value] : environment) ::setenv(name.c_str(), value.c_str(), 1);
    ::execv(program.c_str(), argv.data());
    ::_exit(127);
  }
  std::string text;
  std::array<char, 512> buffer{};
  for (ssize_t n = 0; (n = ::read(terminal, buffer.data(), buffer.size())) > 0;)
    text.append(buffer.data(), static_cast<std::size_t>(n));
  ::close(terminal);
  int status = 0;
  ::waitpid(child, &status, 0);
  return text;
}

TEST_F(Cli, HelpListsTheVerbsOfBothPrograms) {
  const Outcome outcome = run({});
  EXPECT_EQ(outcome.code(), 0);
  EXPECT_EQ(outcome.error, "");
  for (const char* verb : {"quantize", "compare", "eval", "analyze", "inspect", "tokenize"})
    EXPECT_THAT(outcome.out, HasSubstr(verb));
  EXPECT_EQ(run({"--help"}).out, outcome.out);
  EXPECT_EQ(run({"help"}).out, outcome.out);
  EXPECT_THAT(run({"help", "tokenize"}).out, AllOf(HasSubstr("--special"), HasSubstr("Example:")));
  EXPECT_THAT(run({"--version"}).out, StartsWith("pq "));
}

TEST_F(Cli, EveryOutputNoticesAFullDisk) {
  for (const std::string& words :
       std::vector<std::string>{"--version", "help", "help run", "inspect " + sample, "tokenize " + sample}) {
    const Outcome outcome = run({"-c", program + " " + words + " >/dev/full"}, "\"a\"\n", "/bin/bash");
    EXPECT_EQ(outcome.code(), 2) << words;
    EXPECT_THAT(outcome.error, HasSubstr("stdout: cannot write: No space left on device")) << words;
  }
}

TEST_F(Cli, TokenizeAnswersEachLineWithoutWaitingForTheNext) {
  const std::string script = fmt::format(
      "coproc {{ {} tokenize {}; }}; pid=$COPROC_PID; echo '\"a\"' >&${{COPROC[1]}}; read -t 20 -u ${{COPROC[0]}} line "
      "|| exit 3; "
      "printf '\"a\"\\r\\n7\\n' >&${{COPROC[1]}}; read -t 20 -u ${{COPROC[0]}} again || exit 4; wait $pid; [ \"$line\" "
      "= "
      "\"$again\" ]",
      program, sample);
  const Outcome outcome = run({"-c", script}, "", "/bin/bash");
  EXPECT_EQ(outcome.code(), 0) << outcome.error;
  EXPECT_THAT(outcome.error, HasSubstr("error: stdin, line 3: is not a JSON string"));  // behind the answers before it
}

TEST_F(Cli, BashCompletesVerbsFlagsAndValues) {
  const auto completed = [&](const std::string& words, int at) {
    const std::string script = fmt::format(
        "source <({} help --completion bash); COMP_WORDS=({}); COMP_CWORD={}; _pq; echo \"${{COMPREPLY[@]}}\"", program,
        words, at);
    return run({"-c", script}, "", "/bin/bash").out;
  };
  EXPECT_EQ(completed("pq ru", 1), "run\n");
  EXPECT_EQ(completed("pq help tok", 2), "tokenize\n");
  EXPECT_EQ(completed("pq run --prompt-", 2), "--prompt-file\n");
  EXPECT_EQ(completed("pq eval m --attention p", 4), "packed\n");
  EXPECT_EQ(completed("pq inspect " + sample + "/conf", 2), sample + "/config.json\n");
  EXPECT_EQ(run({"help", "--completion", "csh"}).code(), 2);
}

TEST_F(Cli, MistakesAreOneLineOnStderr) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> rows{
      {{"inspct", sample}, "error: pq: unknown verb 'inspct'; did you mean 'inspect'?\n"},
      {{"inspect", sample, "--tensor"}, "error: pq inspect: unknown flag '--tensor'; did you mean '--tensors'?\n"},
      {{"tokenize"}, "error: pq tokenize: MODEL is required; see pq tokenize --help\n"},
  };
  for (const auto& [arguments, message] : rows) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.code(), 2);
    EXPECT_EQ(outcome.error, message);
    EXPECT_EQ(outcome.out, "");
  }
  const Outcome missing = run({"inspect", "/no/such/model"});
  EXPECT_EQ(missing.code(), 2);
  EXPECT_THAT(missing.error, AllOf(StartsWith("error: /no/such/model"), EndsWith("\n")));
  EXPECT_EQ(std::count(missing.error.begin(), missing.error.end(), '\n'), 1);
}

TEST_F(Cli, ColourOnlyOnATerminalAndWithoutNoColor) {
  EXPECT_THAT(run_on_terminal({"inspct"}, {}), HasSubstr("\033["));
  EXPECT_THAT(run_on_terminal({"inspct"}, {{"NO_COLOR", "1"}}),
              AllOf(StartsWith("error: pq: unknown verb"), Not(HasSubstr("\033["))));
  EXPECT_THAT(run_on_terminal({"inspct"}, {{"TERM", "dumb"}}), Not(HasSubstr("\033[")));
  EXPECT_THAT(run({"inspct"}).error, Not(HasSubstr("\033[")));
}

TEST_F(Cli, AVerbOfTheOtherProgramWithoutItSaysHowToGetIt) {
  const fs::path lonely = folder_ / "pq";
  fs::copy_file(program, lonely);
  const Outcome outcome = run({"quantize", sample, "-o", "x"}, "", lonely.string());
  EXPECT_EQ(outcome.code(), 2);
  EXPECT_THAT(outcome.error, AllOf(StartsWith("error: pq quantize: this build has no pq-lab"),
                                   HasSubstr("apt-get install libtorch-dev libopenblas0-openmp")));
  EXPECT_EQ(std::count(outcome.error.begin(), outcome.error.end(), '\n'), 1);
}

TEST_F(Cli, AVerbOfTheOtherProgramReplacesThisOne) {
  fs::copy_file(program, folder_ / "pq");
  std::ofstream(folder_ / "pq-lab")
      << "#!/bin/sh\necho \"$$ $* spin=$GOMP_SPINCOUNT$OMP_WAIT_POLICY core=$OPENBLAS_CORETYPE\"\nexit 7\n";
  fs::permissions(folder_ / "pq-lab", fs::perms::owner_all);
  for (const char* name : {"OPENBLAS_CORETYPE", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}) ::unsetenv(name);
  const pid_t child = start({"quantize", "a b", "-o", "c"}, STDIN_FILENO, (folder_ / "pq").string());
  const Outcome outcome = finish(child);
  EXPECT_EQ(outcome.code(), 7);
  // The same process id: execv, not a child. The processor decides whether OpenBLAS is told its kernels.
  EXPECT_THAT(outcome.out, StartsWith(fmt::format("{} quantize a b -o c spin=2000 core=", child)));
  EXPECT_THAT(outcome.out, testing::AnyOf(EndsWith("core=\n"), EndsWith("core=SkylakeX\n")));
  ::setenv("OPENBLAS_CORETYPE", "Haswell", 1);
  ::setenv("OMP_WAIT_POLICY", "active", 1);
  EXPECT_THAT(run({"compare"}, "", (folder_ / "pq").string()).out, EndsWith("compare spin=active core=Haswell\n"));
  ::unsetenv("OPENBLAS_CORETYPE");
  ::unsetenv("OMP_WAIT_POLICY");
}

TEST_F(Cli, TokenizeWritesOneArrayALine) {
  const std::string input = "\"Hello, world.\\n\"\n  \"\"\r\n\"\\u00e9t\\u00e9 \\ud83d\\ude00\"";
  const Outcome plain = run({"tokenize", sample}, input);
  EXPECT_EQ(plain.error, "");
  ASSERT_EQ(plain.code(), 0);
  EXPECT_EQ(std::count(plain.out.begin(), plain.out.end(), '\n'), 3);
  std::istringstream lines(plain.out);
  std::vector<Json> arrays;
  for (std::string line; std::getline(lines, line);) arrays.push_back(Json::parse(line));
  ASSERT_EQ(arrays.size(), 3U);
  EXPECT_EQ(arrays[0].back(), 13);  // "\n" is a byte token
  EXPECT_EQ(arrays[1], Json::array());

  const Outcome special = run({"tokenize", sample, "--special", "--json"}, input);
  const Json json = Json::parse(special.out);
  EXPECT_EQ(json["lines"], 3);
  EXPECT_EQ(json["ids"][1], Json::array({1}));  // BOS alone
  Json with_bos = arrays[0];
  with_bos.insert(with_bos.begin(), 1);
  EXPECT_EQ(json["ids"][0], with_bos);
  EXPECT_EQ(json["tokens"], arrays[0].size() + arrays[2].size() + 3);
  EXPECT_EQ(run({"tokenize", sample}, "").out, "");
}

TEST_F(Cli, TokenizeGivesTheSameForAnyNumberOfThreads) {
  std::string input;
  for (int i = 0; i < 9000; ++i) input += fmt::format("\"line {} of a text, {} words.\"\n", i, i * i);
  const Outcome one = run({"tokenize", sample, "--threads", "1"}, input);
  EXPECT_EQ(one.code(), 0);
  EXPECT_EQ(std::count(one.out.begin(), one.out.end(), '\n'), 9000);
  EXPECT_EQ(run({"tokenize", sample, "--threads", "3"}, input).out, one.out);
}

TEST_F(Cli, TokenizeNamesTheBadLine) {
  for (const char* bad : {"unquoted", "", "12", "\"open", "\"a\" \"b\"", "[\"a\"]", "\"\\ud800\"", "\"\xff\""}) {
    const Outcome outcome = run({"tokenize", sample}, fmt::format("\"good\"\n{}\n\"good\"\n", bad));
    EXPECT_EQ(outcome.code(), 2) << bad;
    EXPECT_EQ(outcome.error, "error: stdin, line 2: is not a JSON string; each line is one, for example \"Hello\\n\"\n")
        << bad;
  }
}

TEST_F(Cli, AReaderThatLeavesIsNotAnError) {
  const std::string command = fmt::format("yes '\"some text\"' | {} tokenize {} | head -n 1", program, sample);
  const Outcome outcome = run({"-c", "set -o pipefail; (" + command + ") || [ $? -eq 141 ]"}, "", "/bin/bash");
  EXPECT_EQ(outcome.code(), 0);
  EXPECT_THAT(outcome.out, StartsWith("["));
  EXPECT_EQ(outcome.error, "");
}

TEST_F(Cli, AFullDiskIsAnError) {
  const Outcome outcome = run({"-c", fmt::format("{} inspect {} >/dev/full", program, sample)}, "", "/bin/bash");
  EXPECT_EQ(outcome.code(), 2);
  EXPECT_THAT(outcome.error, StartsWith("error: stdout: cannot write: No space left on device"));
}

TEST_F(Cli, CtrlCEndsByTheSignal) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const pid_t child = start({"tokenize", sample}, ends[0]);
  ::usleep(300'000);  // it waits for a line of stdin by now
  ::kill(child, SIGINT);
  const Outcome outcome = finish(child);
  ::close(ends[0]);
  ::close(ends[1]);
  EXPECT_TRUE(WIFSIGNALED(outcome.status) && WTERMSIG(outcome.status) == SIGINT);
  EXPECT_EQ(outcome.error, "\ninterrupted\n");
}

TEST_F(Cli, InspectShowsAnUnquantizedModel) {
  const Outcome text = run({"inspect", sample, "--tensors"});
  EXPECT_EQ(text.code(), 0);
  EXPECT_THAT(text.out,
              AllOf(HasSubstr("not quantized"), HasSubstr("llama: 6 blocks, hidden 256, ffn 704"), HasSubstr("BF16"),
                    HasSubstr("model.layers.5.mlp.down_proj.weight"), HasSubstr("[256, 704]")));
  const Json json = Json::parse(run({"inspect", sample, "--json"}).out);
  EXPECT_EQ(json["quantized"], false);
  EXPECT_EQ(json["architecture"]["kv_heads"], 2);
  EXPECT_EQ(json["bits_per_weight"], 16.0);
  EXPECT_EQ(json["sizes"]["embeddings_bytes"], 8192 * 256 * 2);
  EXPECT_EQ(json["sizes"]["other_bytes"], 0);
  EXPECT_FALSE(json.contains("tensors"));
}

/// A quantized checkpoint of the sample model's shape whose scales are `scale` times the block's number, counted
/// from 1.
void write_checkpoint(const fs::path& out, const Recipe& recipe, const std::vector<std::int32_t>& prefix_ids,
                      float scale) {
  const auto source = io::HfCheckpoint::open(sample);
  const ModelSpec& spec = source.spec();
  io::QuantizedCheckpointWriter writer(
      source, out, io::checkpoint_header(spec, recipe, prefix_ids, "prefix", Json{{"note", "made by a test"}}), false);
  Prefix prefix{static_cast<std::int64_t>(prefix_ids.size()), prefix_ids, {}};
  const auto kv = static_cast<std::size_t>(spec.kv_size()) * prefix_ids.size();
  prefix.blocks.assign(static_cast<std::size_t>(spec.block_count),
                       {std::vector<std::uint16_t>(kv), std::vector<std::uint16_t>(kv)});
  const std::vector<std::uint16_t> rows(static_cast<std::size_t>(spec.vocab_size * spec.hidden_size));
  writer.append_rows(tensor_names::embedding, rows);
  for (std::int64_t b = 0; b < spec.block_count; ++b) {
    QuantizedBlock block;
    block.transforms = online_rotations(spec, recipe.rotate);
    io::visit_block(spec, recipe, b, block, [&](const io::TensorDeclaration& tensor, auto& values) {
      using Value = typename std::decay_t<decltype(values)>::value_type;
      if constexpr (requires { values.resize(1); })
        values.resize(static_cast<std::size_t>(*io::element_count(tensor.shape)));
      std::fill(values.begin(), values.end(),
                static_cast<Value>(std::is_floating_point_v<Value> ? scale * static_cast<float>(b + 1) : 0));
    });
    const auto dim = static_cast<std::size_t>(spec.head_dim);
    for (std::size_t row = 0; row < block.key_basis.size() / dim; ++row) block.key_basis[row * dim + row % dim] += 1;
    writer.write_block(b, block);
  }
  writer.write_final_norm(std::vector<float>(static_cast<std::size_t>(spec.hidden_size), 1.0F));
  writer.append_rows(tensor_names::lm_head, rows);
  if (!prefix_ids.empty()) writer.write_prefix(prefix);
  writer.commit();
}

TEST_F(Cli, InspectShowsAQuantizedCheckpoint) {
  Recipe recipe = named_recipe("w4a4kv4-static");
  recipe.rotate.r3 = false;
  const std::string out = (folder_ / "quantized").string();
  write_checkpoint(out, recipe, {8142, 13, 1}, 0.5F);

  const Outcome text = run({"inspect", out});
  EXPECT_EQ(text.error, "");
  EXPECT_EQ(text.code(), 0);
  EXPECT_THAT(
      text.out,
      AllOf(HasSubstr("w4a4kv4-static (W4A4KV4)"), HasSubstr("rotate.r3=false"), HasSubstr("token ids 8142, 13, 1"),
            HasSubstr("\\n"),
            HasSubstr("4 bits, symmetric, static, one scale a head, K in a basis of its own, K without its mean"),
            HasSubstr("mlp.down_input"), HasSubstr("made by a test"), Not(HasSubstr("R3 "))));

  const Json json = Json::parse(run({"inspect", out, "--json", "--tensors"}).out);
  EXPECT_EQ(json["quantized"], true);
  EXPECT_EQ(json["precision"], "W4A4KV4");
  EXPECT_EQ(json["recipe"], recipe_to_json(recipe));
  EXPECT_EQ(json["prefix_token_ids"], Json::array({8142, 13, 1}));
  EXPECT_EQ(json["prefix_tokens"].size(), 3U);
  // q, k, v, o of 256 inputs, gate and up too, down of 704 inputs: 4 bits each and 32 for a row's scale.
  const double parameters = 2 * 256 * 256 + 2 * 128 * 256 + 3 * 704 * 256;
  const double scales = 256 + 128 + 128 + 256 + 704 + 704 + 256;
  EXPECT_DOUBLE_EQ(json["bits_per_weight"].get<double>(), 4.0 + 32.0 * scales / parameters);
  EXPECT_EQ(json["scales"]["sites"].size(), 6U);
  EXPECT_EQ(json["scales"]["weights"].size(), 7U);
  for (const char* kind : {"sites", "weights"}) {
    for (const Json& row : json["scales"][kind]) {
      EXPECT_EQ(row["min"], 0.5);
      EXPECT_EQ(row["median"], 1.5);  // the lower of the two middle blocks
      EXPECT_EQ(row["max"], 3.0);
    }
  }
  std::uint64_t listed = 0;
  for (const Json& tensor : json["tensors"]) listed += tensor["bytes"].get<std::uint64_t>();
  EXPECT_EQ(json["sizes"]["total_bytes"], listed);
  EXPECT_EQ(json["sizes"]["other_bytes"], 0);
}

TEST_F(Cli, InspectShowsADynamicWeightOnlyAndPrefixlessCheckpoint) {
  const std::string dynamic = (folder_ / "dynamic").string();
  Recipe recipe = named_recipe("w8a8kv8-dynamic");
  recipe.kv.symmetric = false;
  write_checkpoint(dynamic, recipe, {}, 0.25F);
  const Json json = Json::parse(run({"inspect", dynamic, "--json"}).out);
  EXPECT_EQ(json["prefix_token_ids"], Json::array());
  std::vector<std::string> kinds;
  for (const Json& row : json["scales"]["sites"]) kinds.push_back(row["kind"]);
  EXPECT_EQ(std::count(kinds.begin(), kinds.end(), "clip of max"), 6);
  EXPECT_EQ(std::count(kinds.begin(), kinds.end(), "clip of min"), 2);

  const std::string weights = (folder_ / "weights").string();
  write_checkpoint(weights, named_recipe("w3a16g128"), {1}, 0.25F);
  const Outcome text = run({"inspect", weights});
  EXPECT_EQ(text.error, "");
  EXPECT_THAT(text.out, AllOf(HasSubstr("16 bits (not quantized)"), HasSubstr("one scale a group of 128"),
                              HasSubstr("asymmetric")));
}

TEST_F(Cli, InspectRefusesADamagedCheckpoint) {
  const std::string out = (folder_ / "quantized").string();
  write_checkpoint(out, named_recipe("w4a4kv4-static"), {1}, 0.5F);
  const fs::path tensors = fs::path(out) / "model.safetensors";
  fs::resize_file(tensors, fs::file_size(tensors) - 5);
  const Outcome outcome = run({"inspect", out});
  EXPECT_EQ(outcome.code(), 2);
  EXPECT_THAT(outcome.error, AllOf(StartsWith("error: "), HasSubstr("model.safetensors")));
  EXPECT_EQ(std::count(outcome.error.begin(), outcome.error.end(), '\n'), 1);
  EXPECT_EQ(outcome.out, "");
}

// Against Hugging Face transformers (tests/goldens/perplexity_goldens.py).
TEST_F(Cli, EvalCutsWindowsAsOtherToolsDo) {
  const Json goldens = Json::parse(read_text_file(fs::path(PQ_SOURCE_DIR) / "tests/goldens/perplexity_windows.json"));
  ASSERT_GE(goldens.size(), 6U);
  std::map<std::string, double> of_chunks;
  for (const Json& golden : goldens) {
    std::vector<std::string> arguments{
        "eval", "--text", std::string(PQ_SOURCE_DIR) + "/examples/prose.txt", "--length", golden["length"].dump(),
        sample, "--json"};
    const std::vector<std::string> plain = arguments;
    if (golden.contains("stride")) arguments.insert(arguments.end(), {"--stride", golden["stride"].dump()});
    if (golden.contains("llama_cpp_chunks")) arguments.emplace_back("--llama-cpp-chunks");
    const Outcome outcome = run(arguments);
    ASSERT_EQ(outcome.code(), 0) << outcome.error;
    const Json result = Json::parse(outcome.out);
    const auto expected = golden["perplexity"].get<double>();
    EXPECT_NEAR(result["perplexity"].get<double>(), expected, 1e-5 * expected) << golden;
    EXPECT_EQ(result["chunks"], golden["chunks"]) << golden;
    EXPECT_EQ(result["predicted_tokens"], golden["tokens"]) << golden;
    // Plain chunks would not pass.
    const auto [plainly, fresh] = of_chunks.try_emplace(golden["length"].dump());
    if (fresh) plainly->second = Json::parse(run(plain).out)["perplexity"].get<double>();
    EXPECT_GT(std::abs(plainly->second - expected), 1e-3 * expected);
  }
}

TEST_F(Cli, EvalGenerateMeasuresGreedyText) {
  const std::string prose = std::string(PQ_SOURCE_DIR) + "/examples/prose.txt";
  const std::vector<std::string> words{"eval",      sample, "--text", prose, "--generate",      "4", "--json",
                                       "--against", sample, "-n",     "24",  "--prompt-tokens", "12"};
  const Outcome outcome = run(words);
  ASSERT_EQ(outcome.code(), 0) << outcome.error;
  const Json result = Json::parse(outcome.out);
  EXPECT_EQ(result["prompts"], 4);
  ASSERT_EQ(result["rows"].size(), 2U);
  EXPECT_EQ(result["rows"][0]["name"], "FP16");
  EXPECT_EQ(result["rows"][1]["name"], "the text");
  EXPECT_EQ(result["rows"][1]["mean_length"], 24);
  // A model agrees with itself.
  for (const char* share : {"identical_share", "until_divergence", "same_positions"}) EXPECT_EQ(result[share], 1.0);
  EXPECT_EQ(result["repetition_4"], result["rows"][0]["repetition_4"]);
  EXPECT_GE(result["repetition_4"], 0.0);
  EXPECT_LE(result["repetition_4"], 1.0);
  EXPECT_EQ(run(words).out.substr(0, 200), outcome.out.substr(0, 200));
  EXPECT_THAT(run({"eval", sample, "--text", prose, "--generate", "100000"}).error,
              HasSubstr("less than 100000 prompts of 32; give a longer text, fewer prompts (--generate)"));
}

}  // namespace
}  // namespace pq
