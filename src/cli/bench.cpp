#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "base/memory_usage.h"
#include "base/parallel_for.h"
#include "base/progress.h"
#include "cli/verbs.h"
#include "kernels/select.h"
#include "measure/limits.h"
#include "measure/linear_speed.h"
#include "measure/model_speed.h"
#include "measure/shapes.h"
#include "measure/speed_report.h"
#include "measure/speed_tests.h"

namespace pq::cli {
namespace {

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

/// Something that runs again and again, in turns with others.
struct Contender {
  BenchRow* row;
  double tokens;  ///< of one run
  Work work;
  std::function<void()> prepare;
  std::function<double()> run;  ///< seconds
};

class Bench {
 public:
  Bench(const Options& options, std::vector<BenchTest> tests, std::vector<Subject> subjects);
  BenchReport report();

 private:
  void plan_turns();
  void measure_models(std::span<Subject> subjects);
  void measure_linears();
  void take_turns(std::vector<Contender>& contenders);

  const Options& options_;
  int repetitions_;
  std::vector<BenchTest> tests_;
  std::vector<Subject> subjects_;
  std::vector<std::span<Subject>> turns_;  // subjects that are in memory together
  const kernels::KernelTable& table_;
  std::unique_ptr<LimitLog> limits_;
  std::unique_ptr<Progress> progress_;
  std::vector<BenchRow> rows_;
  std::vector<StartUp> start_ups_;
};

Bench::Bench(const Options& options, std::vector<BenchTest> tests, std::vector<Subject> subjects)
    : options_(options),
      repetitions_(options.repetitions > 0 ? options.repetitions
                   : options.quick         ? 3
                                           : 5),
      tests_(std::move(tests)),
      subjects_(std::move(subjects)),
      table_(kernels::select_kernels()) {
  plan_turns();
}

// Neighbours of one group share a turn as long as memory holds them.
void Bench::plan_turns() {
  constexpr std::uint64_t others = std::uint64_t{3} << 29;  // the buffer for the read bandwidth, and the rest of us
  const std::uint64_t available = available_bytes();
  const std::uint64_t budget = available > others ? available - others : 0;
  std::size_t first = 0;
  std::uint64_t together = 0;
  for (std::size_t i = 0; i < subjects_.size(); ++i) {
    const Subject& subject = subjects_[i];
    if (subject.bytes > budget) {
      throw InputError(
          subject.shape,
          fmt::format("{} takes about {} of memory with these tests, {} are free", subject.recipe,
                      format_bytes(static_cast<double>(subject.bytes)), format_bytes(static_cast<double>(budget))),
          "choose other recipes with --recipe, a smaller shape, or tests with fewer tokens");
    }
    if (i > first && (subject.group != subjects_[first].group || together + subject.bytes > budget)) {
      turns_.emplace_back(subjects_.data() + first, i - first);
      first = i;
      together = 0;
    }
    together += subject.bytes;
  }
  if (first < subjects_.size()) turns_.emplace_back(subjects_.data() + first, subjects_.size() - first);
}

BenchReport Bench::report() {
  const std::size_t linear_runs = linear_precisions().size() * linear_rows().size() * large_linears().size();
  const std::size_t runs = tests_.size() * subjects_.size() + (options_.linear ? linear_runs : 0);
  log_info("kernels {}, {} threads; {} rows of {} runs each", table_.name, thread_count(), runs, repetitions_);
  const auto split = std::adjacent_find(
      turns_.begin(), turns_.end(), [](const auto& a, const auto& b) { return a.front().group == b.front().group; });
  if (split != turns_.end()) {
    log_info("memory does not hold all recipes of {} at once: they run one after the other where they must",
             split->front().shape);
  }
  limits_ = std::make_unique<LimitLog>(table_);
  log_info("limits now: {}", limits_text(limits_->now()));
  progress_ = std::make_unique<Progress>("bench", runs * static_cast<std::size_t>(repetitions_));
  rows_.reserve(runs);
  for (const std::span<Subject> turn : turns_) measure_models(turn);
  if (options_.linear) measure_linears();
  progress_.reset();
  return {.kernels = table_.name,
          .processor = processor_name(),
          .threads = thread_count(),
          .repetitions = repetitions_,
          .limits = limits_->median(),
          .best_limits = limits_->best(),
          .limit_count = limits_->count(),
          .rows = std::move(rows_),
          .start_ups = std::move(start_ups_)};
}

void Bench::take_turns(std::vector<Contender>& contenders) {
  const auto name = [](const BenchRow& row) { return fmt::format("{} {} {}", row.shape, row.recipe, row.test); };
  for (int repetition = 0; repetition < repetitions_; ++repetition) {
    for (Contender& contender : contenders) {
      BenchRow& row = *contender.row;
      progress_->advance(0, name(row));
      contender.prepare();
      kernels::MachineLimits limits = limits_->now();
      const double seconds = contender.run();
      const Bound bound = bound_of(contender.work, limits);
      row.limit = bound.limit;
      row.tokens_per_second.push_back(contender.tokens / seconds);
      row.limits_per_second.push_back(contender.tokens / bound.seconds);
      if (limits.int8_matrix_ops > 0) {
        limits.int8_matrix_ops = limits.bf16_matrix_ops = 0;
        row.vector_limits_per_second.push_back(contender.tokens / bound_of(contender.work, limits).seconds);
      }
      progress_->advance(1, name(row));
    }
  }
}

void Bench::measure_models(std::span<Subject> subjects) {
  std::int64_t capacity = 1;
  for (const BenchTest& test : tests_) capacity = std::max(capacity, test.capacity());
  std::vector<std::unique_ptr<BenchModel>> models;
  for (Subject& subject : subjects) {
    progress_->advance(0,
                       fmt::format("{} {}: {}", subject.shape, subject.recipe, subject.checkpoint ? "load" : "make"));
    const auto start = std::chrono::steady_clock::now();
    auto model = subject.load();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (subject.recipe.empty()) subject.recipe = weight_type(*model);
    if (subject.checkpoint) start_ups_.push_back({subject.shape, subject.recipe, seconds});
    models.push_back(std::make_unique<BenchModel>(std::move(model), capacity));
    models.back()->warm_up();
  }
  const std::size_t first_row = rows_.size();
  for (const BenchTest& test : tests_) {
    for (const Subject& subject : subjects) {
      rows_.push_back({.shape = subject.shape,
                       .recipe = subject.recipe,
                       .test = test.name,
                       .group = subject.group,
                       .quantized = subject.quantized});
    }
  }
  // The deepest first, so that a cache is filled once and then cut back.
  std::vector<std::size_t> order(tests_.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return tests_[a].depth > tests_[b].depth; });
  for (const std::size_t i : order) {
    const BenchTest& test = tests_[i];
    std::vector<Contender> contenders;
    for (std::size_t s = 0; s < subjects.size(); ++s) {
      BenchModel& model = *models[s];
      contenders.push_back({.row = &rows_[first_row + i * subjects.size() + s],
                            .tokens = static_cast<double>(test.tokens * test.batch),
                            .work = model.work_of(test),
                            .prepare = [&model, &test] { model.prepare(test); },
                            .run = [&model, &test] { return model.run(test); }});
    }
    take_turns(contenders);
  }
}

void Bench::measure_linears() {
  for (const LinearSize& size : large_linears()) {
    const std::string shape = fmt::format("{}x{}", size.inputs, size.outputs);
    std::vector<std::unique_ptr<BenchLinear>> layers;
    for (const std::string& precision : linear_precisions()) {
      progress_->advance(0, fmt::format("{} {}: make", shape, precision));
      layers.push_back(std::make_unique<BenchLinear>(size, precision, table_));
    }
    for (const std::int64_t rows : linear_rows()) {
      const std::size_t first_row = rows_.size();
      std::vector<Contender> contenders;
      for (std::size_t i = 0; i < layers.size(); ++i) {
        const std::string precision = linear_precisions()[i];
        rows_.push_back({.shape = shape,
                         .recipe = precision,
                         .test = fmt::format("rows{}", rows),
                         .group = "linear " + shape,
                         .quantized = i > 0});
        BenchLinear& layer = *layers[i];
        contenders.push_back({.row = &rows_[first_row + i],
                              .tokens = static_cast<double>(rows * layer.layers(rows)),
                              .work = layer.work_of(rows),
                              .prepare = [] {},
                              .run = [&layer, rows] { return layer.run(rows); }});
      }
      take_turns(contenders);
    }
  }
}

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
  const BenchReport report = Bench(options, parsed, std::move(subjects)).report();
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
  return {"bench", [](CLI::App& app, const CommonOptions& common) -> Action {
            auto options = std::make_shared<Options>();
            app.add_option("MODEL", options->models,
                           "Checkpoints, quantized or not: directories, or org/name in the Hugging Face cache");
            app.add_option("--shape", options->shapes,
                           fmt::format("Random weights of this shape: {}", fmt::join(shape_names(), ", ")))
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
