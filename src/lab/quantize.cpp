#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <filesystem>
#include <memory>

#include "base/error.h"
#include "base/log.h"
#include "base/memory_usage.h"
#include "base/progress.h"
#include "lab/session.h"
#include "lab/verbs.h"
#include "model/recipe_options.h"
#include "quant/pipeline.h"
#include "quant/prefix.h"

namespace pq::lab {
namespace {

struct Options {
  std::string model;
  std::string out;
  std::string calibration = "self";
  bool force = false;
  RecipeOptions recipe;
};

std::uint64_t directory_bytes(const std::filesystem::path& directory) {
  std::uint64_t sum = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    if (entry.is_regular_file()) sum += entry.file_size();
  }
  return sum;
}

int quantize(const Options& options, const CommonOptions& common) {
  const auto start = std::chrono::steady_clock::now();
  const PrivateMemoryPeak memory;
  Recipe recipe = resolve(options.recipe);
  OutputDirectory::check(options.out, "config.json", options.force);
  Session session(options.model, options.calibration, tensor_options(common));
  recipe.calibration.source = session.calibration_name();
  const ModelSpec& spec = session.checkpoint().spec();
  const quant::CalibrationData& data = session.calibration(recipe);
  const std::vector<std::int32_t> prefix = session.prefix(recipe);
  log_info("{}: {} {} blocks, hidden {}, ffn {}; recipe {} ({}), calibration {}", options.model, spec.block_count,
           family_row(spec.family).model_type, spec.hidden_size, spec.intermediate_size, recipe.name,
           precision_name(recipe), recipe.calibration.source);
  const std::string prefix_text = quant::prefix_text(prefix, session.tokenizer());
  log_info("prefix: {}", prefix.empty() ? "none" : fmt::format("{} (ids {})", prefix_text, fmt::join(prefix, ",")));

  Json provenance{{"calibration", session.calibration_name()},
                  {"calibration_sequences", {data.detection.samples(), data.detection.length()}},
                  {"search_sequences", {data.search.samples(), data.search.length()}}};
  if (quant::needs_outliers(recipe.prefix)) {
    Json report = quant::outlier_report_to_json(session.outliers(recipe));
    report.erase("seconds");  // the same seed gives the same bytes
    provenance["outliers"] = std::move(report);
  }
  io::QuantizedCheckpointWriter writer(session.checkpoint(), options.out, recipe, prefix, prefix_text, provenance,
                                       options.force);
  quant::CheckpointSink sink(writer);
  const quant::QuantizeSummary summary =
      quant::quantize_model(session.checkpoint(), recipe, prefix, data, session.options(), sink);
  writer.commit();

  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (common.json) {
    Json json{{"model", options.model},
              {"output", options.out},
              {"recipe", recipe_to_json(recipe)},
              {"precision", precision_name(recipe)},
              {"calibration", session.calibration_name()},
              {"prefix_token_ids", prefix},
              {"prefix_text", prefix_text}};
    Json details = quant::quantize_summary_to_json(summary);
    details.erase("seconds");
    json.update(details);
    if (quant::needs_outliers(recipe.prefix)) json["find_prefix_seconds"] = session.outliers(recipe).seconds;
    json["tensor_bytes"] = writer.tensor_bytes();
    json["seconds"] = seconds;
    json["peak_memory_bytes"] = peak_resident_bytes();
    json["peak_private_memory_bytes"] = memory.bytes();
    print_json(json);
    return 0;
  }
  print_result(fmt::format("{}: {} ({}), prefix {}, {}, {}, peak private memory {}\n", options.out, recipe.name,
                           precision_name(recipe), prefix.empty() ? "none" : prefix_text,
                           format_bytes(static_cast<double>(directory_bytes(options.out))), format_duration(seconds),
                           format_bytes(static_cast<double>(memory.bytes()))));
  if (summary.outliers_measured && !prefix.empty()) {
    print_result(fmt::format("outlier tokens a sequence with the prefix: {:.2f}; largest ratio to the median: {:.1f}\n",
                             summary.remaining_outliers, summary.remaining_ratio));
  }
  return 0;
}

}  // namespace

Verb quantize_verb() {
  return {"quantize", [](CLI::App& app, const CommonOptions& common) -> Action {
            auto options = std::make_shared<Options>();
            app.add_option("MODEL", options->model,
                           "The model: a directory in Hugging Face layout, or org/name in the Hugging Face cache")
                ->required();
            app.add_option("-o,--output", options->out, "Directory to write; it appears when it is complete")
                ->required()
                ->option_text("OUT");
            add_calibration_option(app, options->calibration);
            app.add_flag("--force", options->force, "Replace a finished checkpoint at OUT");
            add_recipe_options(app, options->recipe);
            return [options, &common] { return quantize(*options, common); };
          }};
}

}  // namespace pq::lab
