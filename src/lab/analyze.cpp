#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <optional>

#include "base/error.h"
#include "base/memory_usage.h"
#include "base/scratch_file.h"
#include "base/table.h"
#include "io/hf_checkpoint.h"
#include "io/quantized_checkpoint.h"
#include "lab/analyze_quantized.h"
#include "lab/options.h"
#include "lab/verbs.h"
#include "pipeline/model_analysis.h"
#include "program/output.h"
#include "program/recipe_options.h"
#include "report/analysis_page.h"
#include "report/report_file.h"

namespace pq::lab {
namespace {

using report::Watched;

struct Options {
  std::string model;
  std::string calibration = "self";
  RecipeOptions recipe;
  std::optional<std::string> output;
  std::optional<std::string> svg;
  bool force = false;
  std::string blocks;
  std::int64_t generate = 4;
  std::string stream_dir;
  DamageOptions damage;
};

std::string ratio(double value) { return value >= 100 ? fmt::format("{:.0f}", value) : fmt::format("{:.1f}", value); }

/// "2310 -> 23.1": a ratio without and behind the prefix.
std::string change(double before, const report::ConditionAnalysis* behind, std::size_t block, Watched tensor,
                   double report::TokenMaxima::*which) {
  if (behind == nullptr) return ratio(before);
  return ratio(before) + " -> " + ratio(behind->blocks[block].maxima[tensor].*which);
}

void print_tables(const report::ModelAnalysis& analysis) {
  using report::TokenMaxima;
  const report::ConditionAnalysis& original = analysis.conditions.front();
  const report::ConditionAnalysis* behind = report::find_condition(analysis, "prefixed");
  Table blocks(
      {"block", "outliers a sequence", "down_proj input", "block output", "Q: median/least", "K: median/least"});
  for (std::size_t i = 0; i < original.blocks.size(); ++i) {
    const auto& maxima = original.blocks[i].maxima;
    const auto cell = [&](Watched tensor, double TokenMaxima::*which) {
      return change(maxima[tensor].*which, behind, i, tensor, which);
    };
    std::string count = fmt::format("{:.2f}", original.outliers->per_sequence[i]);
    if (behind != nullptr) count += fmt::format(" -> {:.2f}", behind->outliers->per_sequence[i]);
    blocks.add_row({std::to_string(i), count, cell(Watched::down_input, &TokenMaxima::top_ratio),
                    cell(Watched::block_output, &TokenMaxima::top_ratio),
                    cell(Watched::query, &TokenMaxima::least_ratio), cell(Watched::key, &TokenMaxima::least_ratio)});
  }
  print_result(blocks.text());
  Table tokens({"id", "token", "times an outlier", "share of sequences"});
  const std::vector<report::TokenCount>& counts = original.outliers->tokens;
  for (std::size_t i = 0; i < std::min<std::size_t>(8, counts.size()); ++i) {
    tokens.add_row({std::to_string(counts[i].id), counts[i].text, std::to_string(counts[i].count),
                    fmt::format("{:.1f}%", 100 * counts[i].sequence_share)});
  }
  if (counts.empty()) {
    print_result(original.outliers->position_counts.empty() ? "\nNo outlier tokens.\n"
                                                            : "\nNo outlier tokens but at position 0.\n");
  } else {
    print_result("\nOutlier tokens beyond position 0:\n" + tokens.text());
  }
  std::string ids, text;
  for (const report::TokenPlace& token : analysis.prefix) {
    ids += (ids.empty() ? "" : ",") + std::to_string(token.id);
    text += (text.empty() ? "" : " ") + token.text;
  }
  print_result(fmt::format("\n{}\n", report::finding_of(analysis)));
  print_result(fmt::format("\nprefix: {} (ids {}); {} sequences of {}, calibration {}\n", text, ids, analysis.sequences,
                           analysis.length, analysis.calibration));
}

/// Refuses what cannot be done before any work begins.
quant::AnalysisSettings check(const Options& options, const Recipe& recipe, const ModelSpec& spec) {
  quant::AnalysisSettings settings;
  if (options.output) report::check_report_path(*options.output, options.force);
  if (options.svg) {
    report::check_figure_directory(*options.svg);
    const std::filesystem::path one = std::filesystem::path(*options.svg) / "outlier-counts.svg";  // of every page
    if (!options.force && std::filesystem::exists(one)) {
      throw InputError(one.string(), "already exists", "choose another directory, or --force to replace it");
    }
  }
  if (!options.blocks.empty()) settings.drawn = quant::parse_block_range(options.blocks, spec.block_count);
  if (options.generate < 0) throw InputError(fmt::format("--generate {}", options.generate), "is no number of texts");
  if (!options.stream_dir.empty()) ScratchFile(options.stream_dir, 0);  // says now whether it may be written to
  quant::check_analysis(recipe, spec);
  settings.generated_sequences = options.generate;
  settings.streams = options.stream_dir;
  return settings;
}

/// A quantized checkpoint is asked something else.
int analyze_checkpoint(const Options& options, const CommonOptions& common) {
  if (options.svg) throw UnsupportedError("--svg", "is for unquantized models", "leave it out, or give -o FILE");
  DamageOptions damage = options.damage;
  damage.model = options.model;
  damage.calibration = options.calibration;
  damage.output = options.output;
  damage.force = options.force;
  return analyze_quantized(damage, common);
}

int analyze(const Options& options, const CommonOptions& common) {
  if (io::is_quantized_checkpoint(io::resolve_model(options.model))) return analyze_checkpoint(options, common);
  const Recipe recipe = resolve(options.recipe);
  quant::Preparation preparation(options.model, options.calibration, tensor_options(common));
  const quant::AnalysisSettings settings = check(options, recipe, preparation.checkpoint().spec());
  report::ModelAnalysis analysis = quant::analyze_model(preparation, recipe, settings);
  analysis.model = options.model;
  if (options.output || options.svg) {
    const report::Page page = report::analysis_page(analysis);
    if (options.output) report::write_report(*options.output, report::to_html(page), options.force);
    if (options.svg) report::write_figures(*options.svg, report::figures_of(page), options.force);
  }
  if (common.json) {
    Json json = report::to_json(analysis);
    json["peak_memory_bytes"] = peak_resident_bytes();
    print_json(json);
  } else {
    print_tables(analysis);
  }
  return 0;
}

}  // namespace

Verb analyze_verb() {
  return {
      "analyze", [](CLI::App& app, const CommonOptions& common) -> Action {
        auto options = std::make_shared<Options>();
        app.add_option("MODEL", options->model,
                       "The unquantized model: a directory, a GGUF file, or org/name in the Hugging Face cache; or "
                       "a quantized checkpoint")
            ->required();
        app.add_option("-o,--output", options->output, "Write a page with figures to this HTML file")
            ->option_text("FILE");
        app.add_option("--svg", options->svg, "Write every figure of the page into this directory")->option_text("DIR");
        app.add_flag("--force", options->force, "Replace files that are there");
        app.add_option("--blocks", options->blocks, "Draw the magnitudes and errors of these blocks alone")
            ->option_text("A-B (default all)");
        app.add_option("--generate", options->generate,
                       "Texts that the model writes behind the prefix, to look for outliers in")
            ->option_text(fmt::format("N (default {})", options->generate));
        app.add_option("--stream-dir", options->stream_dir,
                       "Directory for the activation streams; without it they stay in memory where they fit")
            ->option_text("DIR");
        add_damage_options(app, options->damage);
        add_calibration_option(app, options->calibration);
        add_recipe_options(app, options->recipe);
        add_help_text(
            app,
            "Ratios are the largest token-wise maximum over the sequence's median; for Q and K the "
            "median over the least. With an arrow: the original model -> rotated, behind the prefix.\n\n"
            "Of a quantized checkpoint: what quantizing each kind of numbers (weights and inputs of linear layers), "
            "each block and\nthe likeliest single layers costs in KL divergence, the --set that mends each, "
            "and the command that mends first what\nbrings most for what it takes. With n blocks it takes "
            "24 n passes of a block over the text for kinds and errors,\nn^2/2 for the blocks, n/2 for each "
            "single layer.\n\n"
            "  pq analyze OUT --against MODEL --calibration TEXT -o report.html");
        return [options, &common] { return analyze(*options, common); };
      }};
}

}  // namespace pq::lab
