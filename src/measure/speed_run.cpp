#include "measure/speed_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "base/memory_usage.h"
#include "base/parallel_for.h"
#include "base/progress.h"
#include "base/stopwatch.h"
#include "kernels/select.h"
#include "measure/limits.h"
#include "measure/linear_speed.h"

namespace pq::measure {
namespace {

/// Something that runs again and again, in turns with others.
struct Contender {
  BenchRow* row;
  double tokens;  ///< of one run
  Work work;
  std::function<void()> prepare;
  std::function<double()> run;  ///< seconds
};

class SpeedRun {
 public:
  explicit SpeedRun(SpeedPlan plan);
  BenchReport report();

 private:
  void plan_turns();
  void measure_models(std::span<Subject> subjects);
  void measure_linears();
  void take_turns(std::vector<Contender>& contenders);

  SpeedPlan plan_;
  std::vector<std::span<Subject>> turns_;  // subjects that are in memory together
  const kernels::KernelTable& table_;
  std::unique_ptr<LimitLog> limits_;
  std::unique_ptr<Progress> progress_;
  std::vector<BenchRow> rows_;
  std::vector<StartUp> start_ups_;
};

SpeedRun::SpeedRun(SpeedPlan plan) : plan_(std::move(plan)), table_(kernels::select_kernels()) { plan_turns(); }

// Neighbours of one group share a turn as long as memory holds them.
void SpeedRun::plan_turns() {
  constexpr std::uint64_t others = std::uint64_t{3} << 29;  // the buffer for the read bandwidth, and the rest of us
  const std::uint64_t available = available_bytes();
  const std::uint64_t budget = available > others ? available - others : 0;
  std::size_t first = 0;
  std::uint64_t together = 0;
  for (std::size_t i = 0; i < plan_.subjects.size(); ++i) {
    const Subject& subject = plan_.subjects[i];
    if (subject.bytes > budget) {
      throw InputError(
          subject.shape,
          fmt::format("{} takes about {} of memory with these tests, {} are free", subject.recipe,
                      format_bytes(static_cast<double>(subject.bytes)), format_bytes(static_cast<double>(budget))),
          "choose other recipes with --recipe, a smaller shape, or tests with fewer tokens");
    }
    if (i > first && (subject.group != plan_.subjects[first].group || together + subject.bytes > budget)) {
      turns_.emplace_back(plan_.subjects.data() + first, i - first);
      first = i;
      together = 0;
    }
    together += subject.bytes;
  }
  if (first < plan_.subjects.size()) turns_.emplace_back(plan_.subjects.data() + first, plan_.subjects.size() - first);
}

BenchReport SpeedRun::report() {
  const std::size_t linear_runs = linear_precisions().size() * linear_rows().size() * large_linears().size();
  const std::size_t runs = plan_.tests.size() * plan_.subjects.size() + (plan_.linear ? linear_runs : 0);
  log_info("kernels {}, {} threads; {} rows of {} runs each", table_.name, thread_count(), runs, plan_.repetitions);
  const auto split = std::adjacent_find(
      turns_.begin(), turns_.end(), [](const auto& a, const auto& b) { return a.front().group == b.front().group; });
  if (split != turns_.end()) {
    log_info("memory does not hold all recipes of {} at once: they run one after the other where they must",
             split->front().shape);
  }
  limits_ = std::make_unique<LimitLog>(table_);
  log_info("limits now: {}", limits_text(limits_->now()));
  progress_ = std::make_unique<Progress>("bench", runs * static_cast<std::size_t>(plan_.repetitions));
  rows_.reserve(runs);
  for (const std::span<Subject> turn : turns_) measure_models(turn);
  if (plan_.linear) measure_linears();
  progress_.reset();
  return {.kernels = table_.name,
          .processor = processor_name(),
          .threads = thread_count(),
          .repetitions = plan_.repetitions,
          .limits = limits_->median(),
          .best_limits = limits_->best(),
          .limit_count = limits_->count(),
          .rows = std::move(rows_),
          .start_ups = std::move(start_ups_)};
}

void SpeedRun::take_turns(std::vector<Contender>& contenders) {
  const auto name = [](const BenchRow& row) { return fmt::format("{} {} {}", row.shape, row.recipe, row.test); };
  for (int repetition = 0; repetition < plan_.repetitions; ++repetition) {
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

void SpeedRun::measure_models(std::span<Subject> subjects) {
  std::int64_t capacity = 1;
  for (const BenchTest& test : plan_.tests) capacity = std::max(capacity, test.capacity());
  std::vector<std::unique_ptr<BenchModel>> models;
  for (Subject& subject : subjects) {
    progress_->advance(0,
                       fmt::format("{} {}: {}", subject.shape, subject.recipe, subject.checkpoint ? "load" : "make"));
    const Stopwatch stopwatch;
    auto model = subject.load();
    const double seconds = stopwatch.seconds();
    if (subject.recipe.empty()) subject.recipe = weight_type(*model);
    if (subject.checkpoint) start_ups_.push_back({subject.shape, subject.recipe, seconds});
    models.push_back(std::make_unique<BenchModel>(std::move(model), capacity));
    models.back()->warm_up();
  }
  const std::size_t first_row = rows_.size();
  for (const BenchTest& test : plan_.tests) {
    for (const Subject& subject : subjects) {
      rows_.push_back({.shape = subject.shape,
                       .recipe = subject.recipe,
                       .test = test.name,
                       .group = subject.group,
                       .quantized = subject.quantized});
    }
  }
  // The deepest first, so that a cache is filled once and then cut back.
  std::vector<std::size_t> order(plan_.tests.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return plan_.tests[a].depth > plan_.tests[b].depth; });
  for (const std::size_t i : order) {
    const BenchTest& test = plan_.tests[i];
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

void SpeedRun::measure_linears() {
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

}  // namespace

BenchReport measure_speed(SpeedPlan plan) { return SpeedRun(std::move(plan)).report(); }

}  // namespace pq::measure
