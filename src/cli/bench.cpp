#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "cli/verbs.h"
#include "measure/model_speed.h"
#include "measure/shapes.h"
#include "measure/speed_report.h"
#include "measure/speed_run.h"
#include "measure/speed_tests.h"
#include "program/output.h"

namespace pq::cli {
namespace {

using namespace measure;

struct Options {
  std::vector<std::string> models;
  std::vector<std::string> shapes;
  std::vector<std::string> recipes;
  std::vector<std::string> tests;
  int repetitions = 0;  // 0: as many as usual
  int lm_head_bits = 8;
  bool linear = false;
  bool quick = false;
};

int bench(const Options& options, const CommonOptions& common) {
  if (options.models.empty() && options.shapes.empty() && !options.linear) {
    throw InputError("pq bench", "there is nothing to measure",
                     fmt::format("give a MODEL, --shape ({}) or --linear", fmt::join(shape_names(), ", ")));
  }
  if (options.shapes.empty() && !options.recipes.empty()) {
    throw InputError("--recipe", "is for shapes with random weights; a checkpoint has its own",
                     "leave it out, or give --shape");
  }
  std::vector<std::string> tests = options.tests;
  if (tests.empty()) tests = options.quick ? quick_tests() : default_tests();
  const std::vector<BenchTest> parsed = parse_tests(tests);
  std::vector<std::string> recipes = options.recipes;
  if (recipes.empty()) {
    recipes = {"bf16", "w4a8kv4-static", "w4a8kv4-dynamic", "w4a4kv4-static", "w4a4kv4-dynamic"};
  }
  std::vector<Subject> subjects;
  for (const std::string& model : options.models) {
    subjects.push_back(checkpoint_subject(model, options.lm_head_bits, parsed));
  }
  for (const std::string& shape : options.shapes) {
    for (const std::string& recipe : recipes) {
      subjects.push_back(random_subject(shape, recipe, options.lm_head_bits, parsed));
    }
  }
  const BenchReport report = measure_speed({.tests = parsed,
                                            .subjects = std::move(subjects),
                                            .linear = options.linear,
                                            .repetitions = options.repetitions > 0 ? options.repetitions
                                                           : options.quick         ? 3
                                                                                   : 5});
  if (common.json) {
    print_json(report_json(report));
  } else {
    print_result(report_text(report));
  }
  return 0;
}

constexpr std::string_view help =
    "Tests: ppN prefills N tokens and computes the logits of the last; tgN generates N, one after the other, with\n"
    "lm_head and greedy sampling. xB: B sequences (generated together). @D: D tokens are there already. `paper` is\n"
    "pp2048 and tg256@2048. t/s counts the tokens of all sequences.\n\n"
    "All recipes of a shape run in turns, and each number is the median of the repetitions; spread is largest less\n"
    "smallest over it. The machine's limits are measured with the same threads before every run: products of bytes,\n"
    "of bf16 and multiply-adds of float32 in registers, and reads of 2 GiB. Two bounds follow for a run: the\n"
    "operations of its linear layers (2 a weight and token; attention and lm_head are left out) at the peak rate of\n"
    "their kind, and the bytes of weights, lm_head and KV cache that it has to read at the read bandwidth. `limit` is\n"
    "the one that binds, `share of limit` how near the run came. 16-bit activations on integer weights count as float\n"
    "products, or as two products of bytes. Where the processor has a matrix unit, the last column is the share of "
    "what\n"
    "its vector instructions alone could do.\n\n"
    "--linear measures single layers of a 70B model at 1, 8 and 512 rows; their t/s are rows a second.\n"
    "For checkpoints, the time to load and pack is shown too. PQ_FORCE_ISA=NAME takes other kernels (scalar, avx2, "
    "..).\n\n"
    "Examples:\n"
    "  pq bench --shape llama-3.2-1b --quick                      two tests, five recipes\n"
    "  pq bench --shape llama-3.2-1b                              everything; takes half an hour and more\n"
    "  pq bench --shape smollm-135m --recipe bf16,w4a8kv4-static --test pp512,tg128,tg128@4096\n"
    "  pq bench MODEL OUT --test paper --json                     a model and what pq quantize made of it";

}  // namespace

Verb bench_verb() {
  return {
      "bench", [](CLI::App& app, const CommonOptions& common) -> Action {
        auto options = std::make_shared<Options>();
        app.add_option("MODEL", options->models,
                       "Checkpoints, quantized or not: directories, GGUF files, or org/name in the Hugging Face cache");
        app.add_option("--shape", options->shapes,
                       fmt::format("Random weights of this shape: {}; NAME/llama has its sizes and Llama's arithmetic",
                                   fmt::join(shape_names(), ", ")))
            ->delimiter(',')
            ->option_text("NAME,...");
        app.add_option("--recipe", options->recipes,
                       fmt::format("For --shape: {} (default: bf16 and w4a8kv4, w4a4kv4, each static and dynamic)",
                                   fmt::join(bench_recipe_names(), ", ")))
            ->delimiter(',')
            ->option_text("NAME,...");
        app.add_option("--test", options->tests,
                       fmt::format("What to time (default: {})", fmt::join(default_tests(), ",")))
            ->delimiter(',')
            ->option_text("TEST,...");
        app.add_option("--reps", options->repetitions, "Runs of each test (default: 5; 3 with --quick)")
            ->check(CLI::Range(1, 1000))
            ->option_text("N");
        app.add_option("--lm-head-bits", options->lm_head_bits,
                       "Bits of embedding and lm_head of quantized models: 8 or 16; others keep theirs")
            ->check(CLI::IsMember({8, 16}))
            ->option_text("N (default 8)");
        app.add_flag("--linear", options->linear,
                     "Measure single linear layers at the sizes of a 70B model (8192x8192, 8192x28672)");
        app.add_flag("--quick", options->quick,
                     fmt::format("Only {}, unless --test says otherwise", fmt::join(quick_tests(), ",")));
        add_help_text(app, help);
        return [options, &common] { return bench(*options, common); };
      }};
}

}  // namespace pq::cli
