#include "lab/analyze_quantized.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <utility>

#include "base/error.h"
#include "base/memory_usage.h"
#include "base/stopwatch.h"
#include "base/table.h"
#include "io/block_tensors.h"
#include "io/quantized_checkpoint.h"
#include "lab/options.h"
#include "lab/quantize_report.h"
#include "model/format_override.h"
#include "pipeline/checkpoint_damage.h"
#include "pipeline/mending.h"
#include "pipeline/preparation.h"
#include "pipeline/streams.h"
#include "program/output.h"
#include "report/damage_page.h"
#include "report/report_file.h"

namespace pq::lab {
namespace {

constexpr std::int64_t sequence_length = 1024;

/// The model that the checkpoint was made from: what --against names, or what the checkpoint itself does, in the cache
/// or beside it.
std::string source_of(const DamageOptions& options, const io::QuantizedCheckpoint& checkpoint) {
  if (!options.against.empty()) return options.against;
  const std::string name = checkpoint.provenance().value("source", "");
  for (const std::filesystem::path& place :
       {checkpoint.directory().parent_path() / name, std::filesystem::path(name)}) {
    std::error_code code;
    if (!name.empty() && std::filesystem::exists(place / "config.json", code)) return place.string();
  }
  try {
    io::resolve_model(name);
    return name;
  } catch (const Error&) {
    throw InputError(options.model, fmt::format("was made from '{}', which is not to be found", name),
                     "say where that model is with --against MODEL");
  }
}

void require_same_model(const ModelSpec& quantized, ModelSpec original, const std::string& against) {
  original.tied_embeddings = quantized.tied_embeddings;
  if (quantized != original)
    throw InputError(against, "is not the model that the checkpoint was made from: its config.json differs",
                     "give the original with --against MODEL");
}

/// The text's sequences: as many tokens as were asked for, others than those that a run of quantize draws.
at::Tensor draw_tokens(const DamageOptions& options, quant::Preparation& preparation, const Recipe& recipe,
                       const Prefix& prefix) {
  Recipe drawn = recipe;
  drawn.finetune.epochs = drawn.finetune.e2e_epochs = 0;
  drawn.seed = recipe.seed + 1;
  drawn.calibration.length = std::min(sequence_length, options.tokens);
  drawn.calibration.samples = std::max<std::int64_t>(1, options.tokens / drawn.calibration.length);
  drawn.search.samples = drawn.search.length = 1;
  drawn.search.gptq_samples = 0;
  const quant::CalibrationData data = quant::behind_prefix(preparation.calibration(drawn), prefix.token_ids);
  return quant::to_token_tensor(data.detection, preparation.options().device());
}

report::DamageReport report_of(const quant::CheckpointDamage& damage, const io::QuantizedCheckpoint& checkpoint) {
  const Recipe& recipe = checkpoint.recipe();
  const ModelSpec& spec = checkpoint.spec();
  report::DamageReport report;
  report.recipe = recipe.name;
  report.precision = precision_name(recipe);
  report.sequences = damage.sequences;
  report.length = damage.length;
  report.perplexity = damage.perplexity;
  report.quantized_perplexity = damage.quantized_perplexity;
  report.kl = damage.all;
  report.bits_per_weight = io::bits_per_weight(spec, recipe);
  set_layer_errors(damage.errors, report.linears, report.linear_errors, report.linear_costs, report.block_errors);
  report.block_kl = damage.blocks;
  set_kinds(spec, recipe, damage.kinds, damage.errors, report.kinds, report.proposal);
  for (const quant::LinearDamage& one : damage.linears) {
    if (report.worst.size() == 10) break;
    const quant::LinearError& error = damage.errors[static_cast<std::size_t>(one.block)].linears[one.linear];
    quant::Mend mended = quant::mend(spec, recipe, one.block, one.linear, error);
    report.worst.push_back({static_cast<std::size_t>(one.block), std::string(linear_name(one.linear)), one.kl,
                            error.output, error.weights, error.inputs, std::move(mended.settings),
                            mended.bits_per_weight});
  }
  return report;
}

Json json_of(const report::DamageReport& report, const quant::CheckpointDamage& damage) {
  Json json{{"perplexity", report.perplexity},
            {"quantized_perplexity", report.quantized_perplexity},
            {"kl_divergence", report.kl},
            {"bits_per_weight", report.bits_per_weight},
            {"sequences", report.sequences},
            {"length", report.length},
            {"block_kl", report.block_kl},
            {"kinds", kinds_json(report.kinds)},
            {"proposal", proposal_json(report.proposal)},
            {"worst", Json::array()},
            {"linear_kl", Json::array()},
            {"layer_errors", Json::array()}};
  for (const report::WorstLinear& one : report.worst) {
    json["worst"].push_back({{"block", one.block},
                             {"linear", one.linear},
                             {"kl_divergence", one.cost},
                             {"output_error", one.error},
                             {"weights_error", one.weights},
                             {"inputs_error", one.inputs},
                             {"settings", one.settings},
                             {"bits_per_weight", one.bits_per_weight}});
  }
  for (const quant::LinearDamage& one : damage.linears)
    json["linear_kl"].push_back({{"block", one.block}, {"linear", linear_name(one.linear)}, {"kl_divergence", one.kl}});
  for (const quant::LayerErrors& errors : damage.errors)
    json["layer_errors"].push_back(quant::layer_errors_to_json(errors));
  return json;
}

void print_tables(const report::DamageReport& report) {
  print_result(
      fmt::format("{} ({}), {:.3f} bits a weight: perplexity {:.3f}, the original behind the prefix {:.3f}; KL "
                  "divergence {:.4f}\n\n",
                  report.recipe, report.precision, report.bits_per_weight, report.quantized_perplexity,
                  report.perplexity, report.kl));
  Table kinds({"kind", "KL alone", "bits", "what mends it"});
  for (const report::KindCost& kind : report.kinds) {
    kinds.add_row({kind.name, fmt::format("{:.5f}", kind.kl), fmt::format("{:.3f}", kind.bits_per_weight),
                   report::set_flags(kind.settings)});
  }
  print_result(kinds.text());
  if (!report.proposal.names.empty()) {
    print_result(fmt::format("\nto mend first: {}; the model then has {:.3f} bits a weight\n  {}\n",
                             report::named_together(report.proposal), report.proposal.bits_per_weight,
                             report.proposal.command));
  }
  Table worst({"block", "linear", "KL alone", "error", "of weights", "of inputs", "bits", "what mends it"});
  for (const report::WorstLinear& one : report.worst) {
    worst.add_row({std::to_string(one.block), one.linear, fmt::format("{:.5f}", one.cost),
                   fmt::format("{:.4f}", one.error), fmt::format("{:.4f}", one.weights),
                   fmt::format("{:.4f}", one.inputs), fmt::format("{:.3f}", one.bits_per_weight),
                   report::set_flags(one.settings)});
  }
  if (!report.worst.empty()) print_result("\n" + worst.text());
  Table blocks({"block", "KL alone", "error"});
  for (std::size_t b = 0; b < report.block_kl.size(); ++b) {
    blocks.add_row(
        {std::to_string(b), fmt::format("{:.5f}", report.block_kl[b]), fmt::format("{:.5f}", report.block_errors[b])});
  }
  print_result("\n" + blocks.text());
}

}  // namespace

void add_damage_options(CLI::App& app, DamageOptions& options) {
  app.add_option("--against", options.against,
                 "Of a quantized checkpoint: the model that it was made from, where that is not found by its name")
      ->option_text("MODEL");
  app.add_option("--tokens", options.tokens, "Of a quantized checkpoint: tokens of text to measure on")
      ->check(CLI::Range(2, 1 << 20))
      ->option_text(fmt::format("N (default {})", options.tokens));
  app.add_option("--linears", options.linears,
                 "Of a quantized checkpoint: linear layers whose KL divergence is measured, the likeliest ones")
      ->check(CLI::Range(0, 1 << 20))
      ->option_text(fmt::format("N (default {})", options.linears));
}

int analyze_quantized(const DamageOptions& options, const CommonOptions& common) {
  const at::NoGradGuard no_grad;
  const Stopwatch stopwatch;
  if (options.output) report::check_report_path(*options.output, options.force);
  const auto checkpoint = io::QuantizedCheckpoint::open(options.model);
  const Recipe& recipe = checkpoint.recipe();
  const std::string against = source_of(options, checkpoint);
  quant::Preparation preparation(against, options.calibration, tensor_options(common));
  require_same_model(checkpoint.spec(), preparation.checkpoint().spec(), against);
  const at::Tensor tokens = draw_tokens(options, preparation, recipe, checkpoint.prefix());
  const quant::TransformedModel whole(preparation.checkpoint(), recipe, preparation.options());
  const quant::CheckpointDamage damage =
      quant::checkpoint_damage(whole, checkpoint, tokens, static_cast<std::size_t>(options.linears));
  report::DamageReport report = report_of(damage, checkpoint);
  report.model = last_name(options.model);
  report.against = last_name(against);
  report.text = preparation.calibration_name();
  const std::string calibration = checkpoint.provenance().value("calibration", "self");
  const auto command = [&](const std::string& model, const std::string& made_of, const std::string& text) {
    return quantize_command(made_of, model + "-mended", recipe, report.proposal.settings, text);
  };
  report.proposal.command = command(report.model, report.against, calibration);
  if (options.output) report::write_report(*options.output, report::to_html(report::to_page(report)), options.force);
  // The page names no directory of this machine; here the command runs as it is.
  report.proposal.command = command(options.model, against,
                                    last_name(options.calibration) == calibration ? options.calibration : calibration);
  if (!common.json) {
    print_tables(report);
    return 0;
  }
  Json json{{"model", options.model}, {"against", against}, {"calibration", report.text}};
  json.update(json_of(report, damage));
  if (options.output) json["report"] = *options.output;
  json["seconds"] = stopwatch.seconds();
  json["peak_memory_bytes"] = peak_resident_bytes();
  print_json(json);
  return 0;
}

}  // namespace pq::lab
