#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>

#include "base/communicator.h"
#include "base/error.h"
#include "base/log.h"
#include "base/memory_usage.h"
#include "base/progress.h"
#include "base/scratch_file.h"
#include "base/stopwatch.h"
#include "base/version.h"
#include "io/content_hash.h"
#include "io/resume_journal.h"
#include "lab/options.h"
#include "lab/quantize_report.h"
#include "lab/verbs.h"
#include "model/export_recipe.h"
#include "pipeline/pipeline.h"
#include "pipeline/plan.h"
#include "pipeline/prefix.h"
#include "pipeline/preparation.h"
#include "pipeline/rounded_block.h"
#include "program/output.h"
#include "program/recipe_options.h"
#include "program/shell_quote.h"
#include "quant/recipe_transforms.h"
#include "quant/transform.h"
#include "report/report_record.h"

namespace pq::lab {
namespace {

struct Options {
  std::string model;
  std::string out;
  std::string calibration = "self";
  bool force = false;
  bool restart = false;
  std::string stream_dir;
  RecipeOptions recipe;
  std::string for_program;
  std::int64_t context = 0;
  bool dry_run = false;
  bool no_report = false;
};

std::uint64_t directory_bytes(const std::filesystem::path& directory) {
  std::uint64_t sum = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    if (entry.is_regular_file()) sum += entry.file_size();
  }
  return sum;
}

/// Whatever decides the result of a run: what a later one must share to go on where it stopped.
Json fingerprint(quant::Preparation& preparation, const Recipe& recipe, const std::vector<std::int32_t>& prefix) {
  return {{"program", version()},
          {"model", io::checkpoint_hash(preparation.checkpoint())},
          {"calibration_text", preparation.calibration(recipe).text_hash},
          {"prefix_token_ids", prefix},
          {"recipe", recipe_to_json(recipe)}};
}

/// Where a checkpoint is made: OUT.partial with the journal of the run in it, and the writer. Empty in processes
/// other than the root.
struct Destination {
  std::unique_ptr<io::ResumeJournal> journal;
  std::unique_ptr<io::QuantizedCheckpointWriter> writer;
  std::filesystem::path scratch;
  std::filesystem::path out;  // without what the name has too much
};

/// Where a checkpoint's numbers come from, as it says itself.
Json provenance_of(quant::Preparation& preparation, const Recipe& recipe) {
  const quant::CalibrationData& data = preparation.calibration(recipe);
  Json provenance{{"calibration", preparation.calibration_name()},
                  {"calibration_sequences", {data.detection.samples(), data.detection.length()}},
                  {"search_sequences", {data.search.samples(), data.search.length()}}};
  if (recipe.finetune.enabled()) {
    provenance["training_sequences"] = {data.tuning.samples(), data.tuning.length()};
    provenance["validation_sequences"] = {data.validation.samples(), data.validation.length()};
  }
  if (quant::needs_outliers(recipe.prefix)) {
    Json report = quant::outlier_report_to_json(preparation.outliers(recipe));
    report.erase("seconds");  // the same seed gives the same bytes
    provenance["outliers"] = std::move(report);
  }
  return provenance;
}

/// Says what is about to happen; for --dry-run that is all.
void show_plan(const Options& options, const Recipe& recipe, const quant::Preparation& preparation, bool json) {
  const ModelSpec& spec = preparation.checkpoint().spec();
  const bool rounded = quant::rounds_products(preparation.checkpoint(), preparation.options());
  const quant::Plan plan = quant::make_plan(spec, recipe, quant::measured_flops(spec), rounded);
  const double bits = io::bits_per_weight(spec, recipe);
  if (json && options.dry_run) {
    Json result = quant::plan_to_json(plan);
    result["bits_per_weight"] = bits;
    result["model"] = options.model;
    result["recipe"] = recipe_to_json(recipe);
    print_json(result);
    return;
  }
  std::string text =
      fmt::format("{}: {} {} blocks, hidden {}, ffn {}\nto {}: {} ({}), {:.3f} bits a weight\ncalibration: {}\n",
                  options.model, spec.block_count, spec.family->model_type, spec.hidden_size, spec.intermediate_size,
                  options.out, recipe.name, quant::recipe_in_words(recipe), bits,
                  recipe.calibration.source == "self"
                      ? "text that the model samples itself (--calibration FILE takes a text of yours, and is quicker)"
                      : recipe.calibration.source);
  for (const quant::PlannedStep& step : plan.steps) {
    text += fmt::format("  {:<28} about {}\n", step.name, format_duration(step.seconds));
  }
  text += fmt::format("  {:<28} about {}, {} of memory\n", "in all", format_duration(plan.seconds),
                      format_bytes(plan.private_bytes));
  if (options.dry_run) {
    print_result(text);
  } else {
    text.pop_back();
    log_info("{}", text);
  }
}

/// What was made, for people. `prefix_text` is empty without a prefix.
void print_outcome(const std::string& out, const std::string& model, const Recipe& recipe,
                   const std::string& prefix_text, const quant::QuantizeSummary& summary, double seconds,
                   std::uint64_t memory, const report::QuantizationReport& report, const std::string& mending) {
  print_result(fmt::format("{}: {} ({}), prefix {}, {}, {}, peak private memory {}\n", out, recipe.name,
                           precision_name(recipe), prefix_text.empty() ? "none" : prefix_text,
                           format_bytes(static_cast<double>(directory_bytes(out))), format_duration(seconds),
                           format_bytes(static_cast<double>(memory))));
  if (summary.outliers_measured && !prefix_text.empty()) {
    print_result(fmt::format(
        "outlier tokens a sequence with the prefix: {:.2f}, in {:.0f}% of the sequences; largest ratio to the median: "
        "{:.1f}\n",
        summary.remaining.per_sequence, 100 * summary.remaining.sequence_share, summary.remaining.max_ratio));
  }
  if (!report.proposal.names.empty()) {
    print_result(fmt::format("to mend first ({:.3f} bits a weight, now {:.3f}): {}\n  {}\n",
                             report.proposal.bits_per_weight, report.bits_per_weight,
                             report::named_together(report.proposal), mending));
  }
  print_result(fmt::format("next: pq eval {0} --text FILE --against {1}; pq run {0} --prompt TEXT; pq verify {0}\n",
                           shell_word(out), shell_word(model)));
}

/// The recipe as the flags have it; of --for the one that suits the model, after saying what that gives up.
Recipe wanted_recipe(const Options& options) {
  if (options.for_program.empty()) return resolve(options.recipe);
  const ModelSpec spec = io::HfCheckpoint::open(options.model, options.context).spec();
  const ExportRecipe choice = export_recipe(options.for_program, spec, options.model);
  RecipeOptions chosen = options.recipe;
  chosen.recipe = choice.recipe;
  chosen.settings.insert(chosen.settings.begin(), choice.settings.begin(), choice.settings.end());
  if (Communicator::world().is_root()) {
    log_info("for {}: recipe {}; it gives up:\n  {}", options.for_program, choice.recipe,
             fmt::join(choice.given_up, "\n  "));
  }
  return resolve(chosen);
}

int quantize(const Options& options, const CommonOptions& common) {
  const Stopwatch stopwatch;
  const PrivateMemoryPeak memory;
  Communicator& processes = Communicator::world();
  Recipe recipe = wanted_recipe(options);
  OutputDirectory::check(options.out, io::QuantizedCheckpointWriter::output_kind(), options.force, Unfinished::keep,
                         options.restart);
  if (!options.stream_dir.empty()) ScratchFile(options.stream_dir, 0);  // says now whether it may be written to
  quant::Preparation preparation(options.model, options.calibration, tensor_options(common), options.context);
  io::QuantizedCheckpointWriter::check_output(preparation.checkpoint(), options.out, options.force, Unfinished::keep,
                                              options.restart);
  recipe.calibration.source = preparation.calibration_name();
  const ModelSpec& spec = preparation.checkpoint().spec();
  validate_recipe(recipe, spec);
  // What is wrong with a text or a prefix that was given is said before anything else.
  if (options.calibration != "self") preparation.calibration(recipe);
  if (!quant::needs_outliers(recipe.prefix)) preparation.prefix(recipe);
  if (processes.is_root()) show_plan(options, recipe, preparation, common.json);
  if (options.dry_run) return 0;
  const Recipe asked = recipe;
  recipe = preparation.settled(std::move(recipe));
  const quant::CalibrationData& data = preparation.calibration(recipe);
  const std::vector<std::int32_t> prefix = preparation.prefix(recipe);
  const std::string prefix_text = quant::prefix_text(prefix, preparation.tokenizer());
  log_info("prefix: {}", prefix.empty() ? "none" : fmt::format("{} (ids {})", prefix_text, fmt::join(prefix, ",")));

  io::CheckpointHeader header =
      io::checkpoint_header(spec, recipe, prefix, prefix_text, provenance_of(preparation, recipe));
  header.transforms =
      quant::TransformList(quant::make_transforms(spec, recipe, preparation.options().device())).online();
  Destination destination;
  std::unique_ptr<quant::QuantizedModelSink> sink = std::make_unique<quant::DiscardingSink>();
  std::unique_ptr<WatchingSink> watched;  // of the root
  if (processes.is_root()) {
    auto directory = std::make_unique<OutputDirectory>(options.out, io::QuantizedCheckpointWriter::output_kind(),
                                                       options.force, Unfinished::keep, options.restart);
    destination.scratch = directory->partial();
    destination.out = directory->path();
    destination.journal = std::make_unique<io::ResumeJournal>(
        directory->resume(), fingerprint(preparation, recipe, prefix), spec, recipe, header.transforms);
    if (destination.journal->resumed()) {
      log_info("{}: goes on with {} of {} blocks finished", destination.journal->directory().string(),
               destination.journal->finished_blocks(), spec.block_count);
    }
    destination.writer = std::make_unique<io::QuantizedCheckpointWriter>(preparation.checkpoint(), std::move(directory),
                                                                         std::move(header));
    sink = std::make_unique<quant::CheckpointSink>(*destination.writer);
    watched = std::make_unique<WatchingSink>(*sink, recipe);
  } else {
    destination.scratch = std::filesystem::absolute(options.out).parent_path();
  }
  const quant::QuantizeSummary summary = quant::quantize_model(
      preparation.checkpoint(), recipe, prefix, data, preparation.options(), watched ? *watched : *sink,
      {destination.journal.get(), {options.stream_dir, destination.scratch}});
  if (!processes.is_root()) return 0;
  const double seconds = stopwatch.seconds();
  const QuantizeOutcome outcome{
      options.model, destination.out, asked,   recipe,         prefix,
      prefix_text,   summary,         seconds, memory.bytes(), destination.writer->tensor_bytes()};
  const report::ReportRecord record{quantization_report(preparation, outcome, watched->seen()),
                                    model_card(preparation, outcome)};
  destination.writer->add_report_record(report::to_json(record));
  if (!options.no_report) {
    destination.writer->add_text("report.html", report::to_html(report::to_page(record.report)));
    destination.writer->add_text("README.md", report::to_markdown(record.card));
  }
  destination.writer->commit();

  if (common.json) {
    Json json{{"model", options.model},
              {"output", options.out},
              {"recipe", recipe_to_json(recipe)},
              {"precision", precision_name(recipe)},
              {"calibration", preparation.calibration_name()},
              {"prefix_token_ids", prefix},
              {"prefix_text", prefix_text}};
    Json details = quant::quantize_summary_to_json(summary);
    details.erase("seconds");
    details.erase("kind_kl");  // "kinds" says more
    json.update(details);
    if (quant::needs_outliers(recipe.prefix)) json["find_prefix_seconds"] = preparation.outliers(recipe).seconds;
    json["kinds"] = kinds_json(record.report.kinds);
    json["proposal"] = proposal_json(record.report.proposal);
    if (!options.no_report) json["report"] = (destination.out / "report.html").string();
    json["tensor_bytes"] = destination.writer->tensor_bytes();
    json["seconds"] = seconds;
    json["peak_memory_bytes"] = peak_resident_bytes();
    json["peak_private_memory_bytes"] = memory.bytes();
    print_json(json);
    return 0;
  }
  print_outcome(destination.out.string(), options.model, recipe, prefix.empty() ? "" : prefix_text, summary, seconds,
                memory.bytes(), record.report,
                quantize_command(options.model, destination.out.string() + "-mended", asked,
                                 record.report.proposal.settings, options.calibration));
  return 0;
}

}  // namespace

Verb quantize_verb() {
  return {
      "quantize", [](CLI::App& app, const CommonOptions& common) -> Action {
        auto options = std::make_shared<Options>();
        app.add_option(
               "MODEL", options->model,
               "The model: a directory in Hugging Face layout, a GGUF file, or org/name in the Hugging Face cache")
            ->required();
        app.add_option("-o,--output", options->out, "Directory to write; it appears when it is complete")
            ->required()
            ->option_text("OUT");
        app.add_option("--context", options->context,
                       "Tokens that the model will be used with, where its rotary embedding depends on them (LongRoPE "
                       "of Phi); 0: what it was first trained with")
            ->check(CLI::NonNegativeNumber);
        add_calibration_option(app, options->calibration);
        app.add_flag("--force", options->force, "Replace a finished checkpoint at OUT");
        app.add_flag("--restart", options->restart,
                     "Drop a run that was stopped (OUT.partial) and begin anew; without it the same command "
                     "goes on where that stopped");
        app.add_option("--stream-dir", options->stream_dir,
                       "Directory for the fine-tuning's activation streams; without it they stay in memory where "
                       "they fit, else go to OUT.partial")
            ->option_text("DIR");
        app.add_flag("--dry-run", options->dry_run, "Only say what would be done, how long and in how much memory");
        app.add_flag("--no-report", options->no_report,
                     "Write no report.html and no README.md (a model card) into OUT");
        add_recipe_options(app, options->recipe);
        app.add_option("--for", options->for_program,
                       fmt::format("Pick the recipe whose checkpoint pq export turns into this program's files without "
                                   "loss: {}",
                                   fmt::join(export_programs(), ", ")))
            ->option_text("PROGRAM")
            ->excludes("--recipe")
            ->group("Recipe");
        return [options, &common] { return quantize(*options, common); };
      }};
}

}  // namespace pq::lab
