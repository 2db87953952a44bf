#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "base/communicator.h"
#include "base/error.h"
#include "base/log.h"
#include "base/memory_usage.h"
#include "base/stopwatch.h"
#include "base/table.h"
#include "eval/report.h"
#include "lab/options.h"
#include "lab/verbs.h"
#include "model/block_formats.h"
#include "nn/transformer.h"
#include "pipeline/pipeline.h"
#include "pipeline/prefix.h"
#include "pipeline/preparation.h"
#include "program/output.h"
#include "program/recipe_options.h"
#include "tasks/evaluation.h"

namespace pq::lab {
namespace {

struct Options {
  std::string model;
  std::string calibration = "self";
  std::string ablate;
  std::vector<std::string> precisions{"w4a8kv4", "w4a4kv4"};
  int draws = 3;
  eval::EvaluationText text;
  tasks::TaskOptions tasks;
  RecipeOptions recipe;
};

/// A line of the table: what to quantize, or the unquantized model (with a prefix, when `recipe` has one).
struct Row {
  std::string name;
  std::string activation;  // "dynamic", "static", or "none"
  Recipe recipe;
  bool quantized = true;
  std::string prefix_text;
  double quantize_seconds = 0;
  std::vector<eval::ComparisonResult> results;  // one a length
  std::vector<std::int32_t> prefix = {};
};

Recipe with(Recipe recipe, const std::vector<const char*>& settings) {
  for (const char* setting : settings) apply_setting(recipe, setting);
  return recipe;
}

const std::vector<const char*> no_rotation{"rotate.r1=false", "rotate.r2=false", "rotate.r3=false", "rotate.r4=false"};
const std::vector<const char*> no_gptq{"search.gptq=false"};
const std::vector<const char*> no_search{"search.weight=false", "search.activation=false", "search.kv=false",
                                         "search.gptq=false"};
const std::vector<const char*> no_prefix{"prefix.tokens=none"};

std::string activation_name(const Recipe& recipe) {
  if (!quantizes_activations(recipe)) return "none";
  return recipe.activation.is_static() ? "static" : "dynamic";
}

Row quantized_row(std::string name, Recipe recipe) {
  const std::string activation = activation_name(recipe);
  return {std::move(name), activation, std::move(recipe), true, {}, 0, {}};
}

std::vector<Row> baseline(const Recipe& recipe) {
  Recipe plain = recipe;
  plain.prefix.tokens = "none";
  return {{"FP16", "none", plain, false, {}, 0, {}}, {"FP16 + prefix", "none", recipe, false, {}, 0, {}}};
}

/// The steps of the paper's Table 5 for one precision, dynamic and static.
std::vector<Row> ladder(const Options& options, const std::string& precision) {
  const auto names = recipe_names();
  const auto recipe_of = [&](const std::string& name) {
    RecipeOptions one = options.recipe;
    one.recipe = name;
    return resolve(one);
  };
  const bool has_modes = std::find(names.begin(), names.end(), precision + "-static") != names.end();
  const Recipe base = recipe_of(has_modes ? precision + "-dynamic" : precision);
  std::vector<Row> rows;
  rows.push_back(quantized_row("RTN", with(with(with(base, no_rotation), no_search), no_prefix)));
  rows.push_back(quantized_row("+ rotation", with(with(base, no_search), no_prefix)));
  rows.push_back(quantized_row("+ grid search", with(with(base, no_gptq), no_prefix)));
  rows.push_back(quantized_row("+ prefix", with(base, no_gptq)));
  rows.push_back(quantized_row("+ GPTQ", base));
  if (has_modes) {
    const Recipe fixed = recipe_of(precision + "-static");
    rows.push_back(quantized_row("+ static quantization", with(with(fixed, no_gptq), no_prefix)));
    rows.push_back(quantized_row("+ prefix", with(fixed, no_gptq)));
    rows.push_back(quantized_row("+ GPTQ", fixed));
  }
  return rows;
}

class Comparison {
 public:
  Comparison(Options options, const CommonOptions& common)
      : options_(std::move(options)),
        common_(common),
        tasks_(options_.tasks, options_.text.path),
        preparation_(options_.model, options_.calibration, tensor_options(common)) {}

  int run() {
    const at::NoGradGuard no_grad;
    const auto stream = options_.text.load(preparation_.tokenizer(), preparation_.checkpoint().spec());
    tasks_.tokenize(preparation_.tokenizer(), preparation_.checkpoint().spec());
    options_.ablate.empty() ? add_ladder() : add_prefix_rows();
    for (const Row& row : rows_) validate_recipe(row.recipe, preparation_.checkpoint().spec());
    const auto reference = nn::Transformer::load(preparation_.checkpoint(), preparation_.options());
    evaluate(*reference, stream);
    const std::string record = tasks_.write_record(options_.model, Json{{"kernels", "LibTorch, float32"}});
    common_.json ? report_json(record) : report_table(record);
    return 0;
  }

 private:
  void add_ladder() {
    for (const std::string& precision : options_.precisions) {
      const auto steps = ladder(options_, precision);
      if (rows_.empty()) rows_ = baseline(steps.back().recipe);
      rows_.insert(rows_.end(), steps.begin(), steps.end());
    }
  }

  /// Number and content of the prefix: the paper's Tables 9 and 10.
  void add_prefix_rows() {
    const Recipe base = resolve(options_.recipe);
    validate_recipe(base, preparation_.checkpoint().spec());
    const auto found = preparation_.prefix(base);
    const auto count = static_cast<std::int64_t>(found.size());
    rows_ = baseline(base);
    for (std::int64_t n = 0; n <= count; ++n) {
      Recipe recipe = base;
      recipe.prefix.count = n;
      rows_.push_back(quantized_row(fmt::format("first {} of the prefix", n), recipe));
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

  std::unique_ptr<nn::Transformer> model_of(Row& row, nn::Transformer& reference) {
    const Stopwatch stopwatch;
    if (row.quantized) row.recipe = preparation_.settled(row.recipe);
    const std::vector<std::int32_t> prefix = preparation_.prefix(row.recipe);
    row.prefix = prefix;
    row.prefix_text = quant::prefix_text(prefix, preparation_.tokenizer());
    if (!row.quantized) {
      auto shared = reference.share();
      if (!prefix.empty()) shared->set_prefix(reference.prefix_key_values(prefix));
      return shared;
    }
    log_info("{} {}, {} activations", precision_name(row.recipe), row.name, row.activation);
    quant::InMemoryModel memory(preparation_.checkpoint().spec(), row.recipe);
    quant::quantize_model(preparation_.checkpoint(), row.recipe, prefix, preparation_.calibration(row.recipe),
                          preparation_.options(), memory);
    row.quantize_seconds = stopwatch.seconds();
    return memory.transformer(preparation_.options());
  }

  /// Quantizes as many rows as fit in half of the free memory, evaluates them in one pass beside the reference, and so
  /// on. Ranks of one machine share its memory, and all evaluate the same rows together.
  void evaluate(nn::Transformer& reference, const std::vector<std::int32_t>& stream) {
    const ModelSpec& spec = preparation_.checkpoint().spec();
    const double model_bytes =
        4.0 * static_cast<double>(spec.block_count * block_parameters(spec) + 2 * spec.vocab_size * spec.hidden_size);
    Communicator& world = Communicator::world();
    for (std::size_t begin = 0; begin < rows_.size();) {
      world.barrier();  // none has begun to fill the memory that another measures
      auto room = static_cast<float>(static_cast<double>(available_bytes()) / 2 / world.local_size() / model_bytes);
      world.min(std::span(&room, 1));
      const std::size_t count =
          std::min(rows_.size() - begin, std::max<std::size_t>(1, static_cast<std::size_t>(room)));
      std::vector<std::unique_ptr<nn::Transformer>> models;
      std::vector<LanguageModel*> pointers;
      for (std::size_t i = begin; i < begin + count; ++i) {
        models.push_back(model_of(rows_[i], reference));
        pointers.push_back(models.back().get());
      }
      for (const eval::PerplexityOptions& pass : options_.text.passes()) {
        const auto results = eval::compare_models(reference, pointers, stream, pass);
        for (std::size_t i = 0; i < count; ++i) rows_[begin + i].results.push_back(results[i]);
      }
      for (std::size_t i = 0; i < count; ++i) {
        const Row& row = rows_[begin + i];
        const std::string name =
            row.quantized ? fmt::format("{} {}, {}", precision_name(row.recipe), row.name, row.activation) : row.name;
        tasks_.evaluate(*models[i], row.quantized ? row.recipe : Recipe{}, name,
                        row.quantized ? row.recipe.name : "fp16", row.prefix);
      }
      begin += count;
    }
  }

  Json row_json(const Row& row, std::size_t pass) const {
    Json line{{"name", row.name},
              {"activation", row.activation},
              {"recipe", row.quantized ? row.recipe.name : "fp16"},
              {"precision", row.quantized ? precision_name(row.recipe) : "FP16"},
              {"prefix_text", row.prefix_text}};
    line.update(eval::result_json(row.results[pass], true));
    line["quantize_seconds"] = row.quantize_seconds;
    return line;
  }

  /// What one length gave: of the unquantized model at the top, of all in `rows`.
  Json pass_json(std::size_t pass) const {
    const eval::ComparisonResult& first = rows_.front().results[pass];
    Json json = eval::pass_json(options_.text, pass, first);
    json.update(eval::result_json(first, true));
    json["rows"] = Json::array();
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      json["rows"].push_back(row_json(rows_[i], pass));
      if (pass == 0) json["rows"].back().update(tasks_.row_json(i));
    }
    return json;
  }

  void report_json(const std::string& record) const {
    Json json{
        {"model", options_.model}, {"calibration", preparation_.calibration_name()}, {"text", options_.text.path}};
    json.update(tasks_.settings_json());
    if (!record.empty()) json["record"] = record;
    json.update(pass_json(0));
    for (std::size_t pass = 0; options_.text.lengths.size() > 1 && pass < options_.text.lengths.size(); ++pass)
      json["lengths"].push_back(pass_json(pass));
    print_json(json);
  }

  /// Perplexity of every length, then the distances at the last one.
  void report_table(const std::string& record) const {
    std::vector<std::string> header{"recipe", "step", "activation"};
    if (!options_.ablate.empty()) header.emplace_back("prefix");
    const std::vector<std::int64_t>& lengths = options_.text.lengths;
    for (const std::int64_t length : lengths)
      header.push_back(lengths.size() == 1 ? "perplexity" : fmt::format("perplexity {}", length));
    header.insert(header.end(), {"KL divergence", "top-1"});
    const std::vector<std::string> task_names = tasks_.header();
    header.insert(header.end(), task_names.begin(), task_names.end());
    header.emplace_back("seconds");
    Table table(header);
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      const Row& row = rows_[i];
      std::vector<std::string> cells{row.quantized ? precision_name(row.recipe) : "FP16",
                                     row.quantized        ? row.name
                                     : row.name == "FP16" ? ""
                                                          : "+ prefix",
                                     row.quantized ? row.activation : "-"};
      if (!options_.ablate.empty()) cells.push_back(row.prefix_text.empty() ? "-" : row.prefix_text);
      for (const eval::ComparisonResult& result : row.results)
        cells.push_back(fmt::format("{:.2f}", result.perplexity));
      cells.push_back(fmt::format("{:.4f}", row.results.back().kl_divergence));
      cells.push_back(fmt::format("{:.1f}%", 100 * row.results.back().top1_agreement));
      const std::vector<std::string> task_cells = tasks_.cells(i);
      cells.insert(cells.end(), task_cells.begin(), task_cells.end());
      cells.push_back(fmt::format("{:.1f}", row.quantize_seconds));
      table.add_row(std::move(cells));
    }
    print_result(table.text());
    print_result(fmt::format("{}; calibration: {}; distances from FP16{}; seconds to quantize\n",
                             eval::describe_passes(options_.text, rows_.front().results),
                             preparation_.calibration_name(),
                             lengths.size() == 1 ? "" : fmt::format(" at {}", lengths.back())));
    print_result(tasks_.footnote());
    if (!record.empty()) print_result(fmt::format("record: {}\n", record));
  }

  Options options_;
  const CommonOptions& common_;
  tasks::Evaluation tasks_;
  quant::Preparation preparation_;
  std::vector<Row> rows_;
};

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
        add_recipe_options(app, options->recipe);
        add_help_text(
            app,
            "The ladder: FP16, FP16 + prefix, then for each precision round-to-nearest, + rotation, + grid search,\n"
            "+ prefix, + GPTQ rounding, all with dynamic scales; then rotation and grid search with static scales\n"
            "(+ static quantization), + prefix, + GPTQ. --set and the shortcuts apply to every row.\n\n"
            "  pq compare MODEL --text wiki.test.raw\n"
            "  pq compare MODEL --text wiki.test.raw --ablate prefix");
        return [options, &common] {
          options->text.require();
          return Comparison(*options, common).run();
        };
      }};
}

}  // namespace pq::lab
