#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <utility>

#include "base/communicator.h"
#include "base/error.h"
#include "base/file_kind.h"
#include "base/log.h"
#include "base/memory_usage.h"
#include "base/stopwatch.h"
#include "eval/perplexity.h"
#include "io/block_tensors.h"
#include "lab/bench_speeds.h"
#include "lab/compare_report.h"
#include "lab/compare_rows.h"
#include "lab/options.h"
#include "lab/verbs.h"
#include "nn/transformer.h"
#include "pipeline/pipeline.h"
#include "pipeline/prefix.h"
#include "pipeline/preparation.h"
#include "program/output.h"
#include "program/recipe_options.h"
#include "report/report_file.h"
#include "tasks/evaluation.h"

namespace pq::lab {
namespace {

struct Options {
  std::string model;
  std::string calibration = "self";
  std::string ablate;
  std::vector<std::string> precisions{"w4a8kv4", "w4a4kv4"};
  int draws = 3;
  int seeds = 1;
  std::optional<std::string> output;
  std::optional<std::string> svg;
  std::string bench;
  bool force = false;
  eval::EvaluationText text;
  tasks::TaskOptions tasks;
  RecipeOptions recipe;
};

class Comparison {
 public:
  Comparison(Options options, const CommonOptions& common)
      : options_(std::move(options)),
        common_(common),
        tasks_(options_.tasks, options_.text.path),
        preparation_(options_.model, options_.calibration, tensor_options(common)) {}

  int run() {
    const at::NoGradGuard no_grad;
    std::vector<std::int32_t> stream;
    if (options_.text.path.empty()) {
      options_.text.lengths.clear();  // no passes over a text
    } else {
      stream = options_.text.load(preparation_.tokenizer(), preparation_.checkpoint().spec());
    }
    tasks_.tokenize(preparation_.tokenizer(), preparation_.checkpoint().spec());
    std::string speed_test;
    if (options_.ablate.empty()) {
      add_ladder();
      if (!options_.bench.empty()) {
        const BenchSpeeds speeds = read_bench_speeds(options_.bench);
        add_speeds(rows_, speeds, options_.bench);
        speed_test = speeds.test;
      }
    } else {
      add_prefix_rows();
    }
    const ModelSpec& spec = preparation_.checkpoint().spec();
    for (ComparedRow& row : rows_) {
      validate_recipe(row.recipe(), spec);
      row.bits_per_weight = row.quantized ? io::bits_per_weight(spec, row.recipe()) : 16;
    }
    repeat_over_seeds(rows_, options_.seeds);
    const auto reference = nn::Transformer::load(preparation_.checkpoint(), preparation_.options());
    evaluate(*reference, stream);
    const std::string record = tasks_.write_record(options_.model, Json{{"kernels", "LibTorch, float32"}});
    const CompareReport report{options_.model, preparation_.calibration_name(), options_.text, tasks_, rows_,
                               options_.seeds, !options_.ablate.empty(),        speed_test};
    if ((options_.output || options_.svg) && Communicator::world().is_root()) {
      const report::Page page = report.page();
      if (options_.output) report::write_report(*options_.output, report::to_html(page), options_.force);
      if (options_.svg) report::write_figures(*options_.svg, report::figures_of(page), options_.force);
    }
    if (common_.json) {
      Json json = report.json(record);
      if (options_.output) json["report"] = *options_.output;
      if (options_.svg) json["figures"] = *options_.svg;
      print_json(json);
      return 0;
    }
    print_result(report.table() + tasks_.footnote());
    if (!record.empty()) print_result(fmt::format("record: {}\n", record));
    if (options_.output) print_result(fmt::format("report: {}\n", *options_.output));
    if (options_.svg) print_result(fmt::format("figures: {}\n", *options_.svg));
    return 0;
  }

 private:
  void add_ladder() {
    for (const std::string& precision : options_.precisions) {
      const auto steps = ladder_rows(options_.recipe, precision);
      if (rows_.empty()) rows_ = baseline_rows(steps.back().recipe());
      rows_.insert(rows_.end(), steps.begin(), steps.end());
    }
  }

  /// Number and content of the prefix: the paper's Tables 9 and 10.
  void add_prefix_rows() {
    const Recipe base = resolve(options_.recipe);
    validate_recipe(base, preparation_.checkpoint().spec());
    const auto found = preparation_.prefix(base);
    const auto count = static_cast<std::int64_t>(found.size());
    rows_ = baseline_rows(base);
    for (std::int64_t n = 0; n <= count; ++n) {
      Recipe recipe = base;
      recipe.prefix.count = n;
      rows_.push_back(quantized_row(n == 0 ? "no prefix" : fmt::format("first {} of the prefix", n), recipe));
    }
    const std::int64_t others = std::max<std::int64_t>(1, count);
    Recipe other = base;
    other.prefix.count = -1;
    other.prefix.tokens = fmt::format("top1:{}", others);
    rows_.push_back(quantized_row("only the most frequent", other));
    for (int draw = 0; draw < options_.draws; ++draw) {
      other.prefix.tokens = fmt::format("random:{}", others);
      other.seed =
          base.seed + static_cast<std::uint64_t>(draw);  // of the draw alone: the ids go on with the base's seed
      other.prefix.tokens = fmt::format("ids:{}", fmt::join(preparation_.prefix(other), ","));
      other.seed = base.seed;
      rows_.push_back(quantized_row("random tokens", other));
    }
  }

  std::unique_ptr<nn::Transformer> model_of(const ComparedRow& row, ComparedRun& run, nn::Transformer& reference) {
    const Stopwatch stopwatch;
    if (row.quantized) run.recipe = preparation_.settled(run.recipe);
    run.prefix = preparation_.prefix(run.recipe);
    run.prefix_text = quant::prefix_text(run.prefix, preparation_.tokenizer());
    if (!row.quantized) {
      auto shared = reference.share();
      if (!run.prefix.empty()) shared->set_prefix(reference.prefix_key_values(run.prefix));
      return shared;
    }
    log_info("{} {}, {} activations{}", precision_name(run.recipe), row.name, row.activation,
             options_.seeds > 1 ? fmt::format(", seed {}", run.recipe.seed) : "");
    quant::InMemoryModel memory(preparation_.checkpoint().spec(), run.recipe);
    quant::quantize_model(preparation_.checkpoint(), run.recipe, run.prefix, preparation_.calibration(run.recipe),
                          preparation_.options(), memory);
    run.quantize_seconds = stopwatch.seconds();
    return memory.transformer(preparation_.options());
  }

  /// Quantizes as many rows as fit in half of the free memory, evaluates them in one pass beside the reference, and so
  /// on. Ranks of one machine share its memory, and all evaluate the same rows together.
  void evaluate(nn::Transformer& reference, const std::vector<std::int32_t>& stream) {
    const ModelSpec& spec = preparation_.checkpoint().spec();
    const double model_bytes =
        4.0 * static_cast<double>(spec.block_count * block_parameters(spec) + 2 * spec.vocab_size * spec.hidden_size);
    Communicator& world = Communicator::world();
    // Seed after seed: what is drawn with one is drawn once.
    std::vector<std::pair<ComparedRow*, ComparedRun*>> runs;
    for (std::size_t seed = 0; seed < static_cast<std::size_t>(options_.seeds); ++seed) {
      for (ComparedRow& row : rows_) {
        if (seed < row.runs.size()) runs.emplace_back(&row, &row.runs[seed]);
      }
    }
    for (std::size_t begin = 0; begin < runs.size();) {
      world.barrier();  // none has begun to fill the memory that another measures
      auto room = static_cast<float>(static_cast<double>(available_bytes()) / 2 / world.local_size() / model_bytes);
      world.min(std::span(&room, 1));
      const std::size_t count = std::min(runs.size() - begin, std::max<std::size_t>(1, static_cast<std::size_t>(room)));
      std::vector<std::unique_ptr<nn::Transformer>> models;
      std::vector<LanguageModel*> pointers;
      for (std::size_t i = begin; i < begin + count; ++i) {
        models.push_back(model_of(*runs[i].first, *runs[i].second, reference));
        pointers.push_back(models.back().get());
      }
      for (const eval::PerplexityOptions& pass : options_.text.passes()) {
        const auto results = eval::compare_models(reference, pointers, stream, pass);
        for (std::size_t i = 0; i < count; ++i) runs[begin + i].second->results.push_back(results[i]);
      }
      for (std::size_t i = 0; i < count; ++i) {
        const ComparedRow& row = *runs[begin + i].first;
        ComparedRun& run = *runs[begin + i].second;
        run.evaluation = begin + i;
        const std::string seed = row.runs.size() > 1 ? fmt::format(", seed {}", run.recipe.seed) : "";
        tasks_.evaluate(*models[i], row.quantized ? run.recipe : Recipe{}, row.title() + seed,
                        row.quantized ? run.recipe.name : "fp16", run.prefix);
      }
      begin += count;
    }
  }

  Options options_;
  const CommonOptions& common_;
  tasks::Evaluation tasks_;
  quant::Preparation preparation_;
  std::vector<ComparedRow> rows_;
};

/// Refuses names that cannot be written to before there is work to lose.
void check_outputs(const Options& options) {
  if (options.output) report::check_report_path(*options.output, options.force);
  if (!options.svg) return;
  report::check_figure_directory(*options.svg);
  const char* one = options.text.path.empty() ? "accuracy.svg"  // of every such page
                    : options.ablate.empty()  ? "steps-perplexity.svg"
                                              : "prefix-perplexity.svg";
  const std::filesystem::path path = std::filesystem::path(*options.svg) / one;
  if (exists_or_dangles(path)) report::check_report_path(path, options.force);
}

}  // namespace

Verb compare_verb() {
  return {
      "compare", [](CLI::App& app, const CommonOptions& common) -> Action {
        auto options = std::make_shared<Options>();
        app.add_option("MODEL", options->model,
                       "The unquantized model: a directory, a GGUF file, or org/name in the Hugging Face cache")
            ->required();
        options->text.add_options(app);
        options->tasks.add_options(app);
        add_calibration_option(app, options->calibration);
        app.add_option("--precisions", options->precisions,
                       "Precisions to climb the ladder with: recipe names without -static and -dynamic")
            ->delimiter(',')
            ->option_text("LIST (default w4a8kv4,w4a4kv4)");
        app.add_option("--ablate", options->ablate,
                       "Instead of the ladder: number and content of the prefix, with --recipe")
            ->check(CLI::IsMember({"prefix"}))
            ->option_text("prefix");
        app.add_option("--draws", options->draws, "Random prefixes that --ablate prefix draws")
            ->check(CLI::Range(1, 100))
            ->option_text("N (default 3)");
        app.add_option("--seeds", options->seeds,
                       "Quantize every row with so many seeds, from the recipe's on; means and standard deviations")
            ->check(CLI::Range(1, 100))
            ->option_text("N (default 1)");
        app.add_option("-o,--report", options->output, "Write a page with charts, and the table to copy, too")
            ->option_text("FILE.html");
        app.add_option("--svg", options->svg, "Write every figure of that page into this directory")
            ->option_text("DIR");
        app.add_option("--bench", options->bench,
                       "What `pq bench OUT.. --json` wrote: tokens a second of the recipes, for table and page")
            ->option_text("FILE");
        app.add_flag("--force", options->force,
                     "Replace the file that -o names, and figures in the directory of --svg");
        add_recipe_options(app, options->recipe);
        add_help_text(
            app,
            "The ladder: FP16, FP16 + prefix, then for each precision round-to-nearest, + rotation, + grid search,\n"
            "+ prefix, + GPTQ rounding, all with dynamic scales; then rotation and grid search with static scales\n"
            "(+ static quantization), + prefix, + GPTQ. --set and the shortcuts apply to every row.\n\n"
            "  pq compare MODEL --text wiki.test.raw\n"
            "  pq compare MODEL --text wiki.test.raw --seeds 3 -o ladder.html\n"
            "  pq compare MODEL --text wiki.test.raw --ablate prefix\n"
            "  pq compare MODEL --tasks paper --tasks-dir tasks -o ladder.html");
        return [options, &common] {
          if (!options->tasks.requested()) options->text.require();
          check_outputs(*options);
          if (!options->bench.empty() && !options->ablate.empty())
            throw InputError("--bench", "has no use with --ablate, whose rows are all as fast", "leave it out");
          return Comparison(*options, common).run();
        };
      }};
}

}  // namespace pq::lab
