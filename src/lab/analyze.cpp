#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>

#include "base/error.h"
#include "base/memory_usage.h"
#include "base/table.h"
#include "io/quantized_checkpoint.h"
#include "lab/analyze_quantized.h"
#include "lab/options.h"
#include "lab/verbs.h"
#include "pipeline/prefix.h"
#include "pipeline/preparation.h"
#include "program/output.h"
#include "program/recipe_options.h"

namespace pq::lab {
namespace {

struct Options {
  std::string model;
  std::string calibration = "self";
  RecipeOptions recipe;
  std::optional<std::string> output;
  bool force = false;
  DamageOptions damage;
};

std::string ratio(double value) { return value >= 100 ? fmt::format("{:.0f}", value) : fmt::format("{:.1f}", value); }

/// A quantized checkpoint is asked something else.
int analyze_checkpoint(const Options& options, const CommonOptions& common) {
  DamageOptions damage = options.damage;
  damage.model = options.model;
  damage.calibration = options.calibration;
  damage.output = options.output;
  damage.force = options.force;
  return analyze_quantized(damage, common);
}

int analyze(const Options& options, const CommonOptions& common) {
  if (io::is_quantized_checkpoint(io::resolve_model(options.model))) return analyze_checkpoint(options, common);
  if (options.output) {
    throw UnsupportedError("--output", "is for quantized checkpoints", "leave it out");
  }
  const Recipe recipe = resolve(options.recipe);
  quant::Preparation preparation(options.model, options.calibration, tensor_options(common));
  const quant::OutlierReport& report = preparation.outliers(recipe);
  const std::vector<std::int32_t> prefix = preparation.prefix(recipe);
  const std::string text = quant::prefix_text(prefix, preparation.tokenizer());
  if (common.json) {
    Json json{{"model", options.model},
              {"calibration", preparation.calibration_name()},
              {"prefix_token_ids", prefix},
              {"prefix_text", text}};
    json.update(quant::outlier_report_to_json(report));
    for (Json& token : json["tokens"])
      token["text"] = preparation.tokenizer().token_text(token["id"].get<std::int32_t>());
    json["peak_memory_bytes"] = peak_resident_bytes();
    print_json(json);
    return 0;
  }
  Table blocks(
      {"block", "outliers a sequence", "down_proj input", "block output", "Q: median/least", "K: median/least"});
  for (std::size_t i = 0; i < report.blocks.size(); ++i) {
    const quant::BlockOutliers& block = report.blocks[i];
    blocks.add_row({std::to_string(i), fmt::format("{:.2f}", block.down_product.mean_upper),
                    ratio(block.down_product.max_ratio), ratio(block.block_output.max_ratio),
                    ratio(block.query.max_inverse_ratio), ratio(block.key.max_inverse_ratio)});
  }
  print_result(blocks.text());
  Table tokens({"id", "token", "times an outlier", "share of sequences"});
  for (std::size_t i = 0; i < std::min<std::size_t>(8, report.tokens.size()); ++i) {
    const quant::OutlierToken& token = report.tokens[i];
    tokens.add_row({std::to_string(token.id), preparation.tokenizer().token_text(token.id), std::to_string(token.count),
                    fmt::format("{:.1f}%", 100 * token.sequence_share)});
  }
  if (report.tokens.empty()) {
    print_result("\nNo outlier tokens but at position 0.\n");
  } else {
    print_result("\nOutlier tokens beyond position 0:\n" + tokens.text());
  }
  print_result(fmt::format("\nprefix: {} (ids {}); {} sequences of {}, calibration {}\n", text, fmt::join(prefix, ","),
                           report.sequences, preparation.calibration(recipe).detection.length(),
                           preparation.calibration_name()));
  return 0;
}

}  // namespace

Verb analyze_verb() {
  return {"analyze", [](CLI::App& app, const CommonOptions& common) -> Action {
            auto options = std::make_shared<Options>();
            app.add_option("MODEL", options->model,
                           "The unquantized model: a directory, a GGUF file, or org/name in the Hugging Face cache; or "
                           "a quantized checkpoint")
                ->required();
            app.add_option("-o,--output", options->output, "Write a page with figures to this HTML file")
                ->option_text("FILE");
            app.add_flag("--force", options->force, "Replace a file that is there");
            add_damage_options(app, options->damage);
            add_calibration_option(app, options->calibration);
            add_recipe_options(app, options->recipe);
            add_help_text(
                app,
                "Ratios are the largest token-wise maximum over the sequence's median; for Q and K the "
                "median over the least.\n\n"
                "Of a quantized checkpoint: what quantizing each block, each kind of linear layer and the "
                "likeliest single layers costs\nin KL divergence, and the --set that mends each. With n blocks "
                "it takes n^2/2 passes of a block over the text for the\nblocks, 23 n for kinds and errors, "
                "n/2 for each single layer.\n\n"
                "  pq analyze OUT --against MODEL --calibration TEXT -o report.html");
            return [options, &common] { return analyze(*options, common); };
          }};
}

}  // namespace pq::lab
