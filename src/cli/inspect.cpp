#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/table.h"
#include "cli/checkpoint_summary.h"
#include "cli/verbs.h"
#include "io/foreign_checkpoint.h"
#include "io/hf_checkpoint.h"
#include "io/quantized_checkpoint.h"
#include "model/block_formats.h"
#include "model/format_override.h"
#include "model/site_transform.h"
#include "program/output.h"
#include "report/report_record.h"
#include "tokenizer/tokenizer.h"

namespace pq::cli {
namespace {

struct Options {
  std::string model;
  bool tensors = false;
  bool report = false;
  bool force = false;
};

/// "name  value" lines, the values aligned.
class Facts {
 public:
  void add(std::string_view name, std::string_view value) {
    lines_.emplace_back(name, value);
    std::replace(lines_.back().first.begin(), lines_.back().first.end(), '_', ' ');
    width_ = std::max(width_, name.size());
  }
  std::string text() const {
    std::string text;
    for (const auto& [name, value] : lines_) text += fmt::format("{:<{}}  {}\n", name, width_, value);
    return text;
  }

 private:
  std::vector<std::pair<std::string, std::string>> lines_;
  std::size_t width_ = 0;
};

std::string bytes_text(std::uint64_t bytes) { return format_bytes(static_cast<double>(bytes)); }

std::string architecture_text(const ModelSpec& spec) {
  std::string text =
      fmt::format("{}: {} blocks, hidden {}, ffn {}, {} heads and {} KV heads of {}, vocabulary {}, context {}",
                  spec.family->model_type, spec.block_count, spec.hidden_size, spec.intermediate_size, spec.head_count,
                  spec.kv_head_count, spec.head_dim, spec.vocab_size, spec.max_positions);
  if (spec.largest_window() > 0) text += fmt::format(", window {}", spec.largest_window());
  if (spec.tied_embeddings) text += ", tied embeddings";
  return text;
}

Json architecture_json(const ModelSpec& spec) {
  return {{"model_type", spec.family->model_type},
          {"blocks", spec.block_count},
          {"hidden_size", spec.hidden_size},
          {"intermediate_size", spec.intermediate_size},
          {"heads", spec.head_count},
          {"kv_heads", spec.kv_head_count},
          {"head_dim", spec.head_dim},
          {"vocab_size", spec.vocab_size},
          {"max_positions", spec.max_positions},
          {"sliding_window", spec.largest_window()},
          {"tied_embeddings", spec.tied_embeddings}};
}

std::string format_text(const QuantizerFormat& format, std::string_view group) {
  if (!format.enabled()) return "16 bits (not quantized)";
  static constexpr std::array names{"tensor", "token", "channel", "head"};
  const std::string shares = format.granularity == Granularity::group
                                 ? fmt::format("group of {}", format.group)
                                 : names.at(static_cast<std::size_t>(format.granularity));
  return fmt::format("{} bits, {}{}, one scale a {}", format.bits, format.symmetric ? "symmetric" : "asymmetric", group,
                     shares);
}

std::string mode_text(const QuantizerFormat& format) { return format.is_static() ? ", static" : ", dynamic"; }

/// What is done to K behind its rotation.
std::string keys_text(const Recipe& recipe) {
  const std::vector<BlockFormats> kinds = distinct_formats(recipe);
  const auto some = [&](bool BlockFormats::*what) {
    return std::any_of(kinds.begin(), kinds.end(), [&](const BlockFormats& formats) { return formats.*what; });
  };
  std::string text;
  if (some(&BlockFormats::balance_keys)) text += ", K in a basis of its own";
  if (some(&BlockFormats::center_keys)) text += ", K without its mean";
  return text;
}

std::string rotations_text(const RotationSettings& rotate) {
  std::vector<std::string_view> names;
  if (rotate.r1 == ResidualRotation::online) {
    names.push_back("R1 (inputs of q, k, v and of gate, up, online)");
  } else if (rotate.r1 != ResidualRotation::none) {
    names.push_back("R1 (residual stream)");
  }
  if (rotate.r2) names.push_back("R2 (V and o_proj)");
  if (rotate.r3) names.push_back("R3 (Q and K)");
  if (rotate.r4) names.push_back("R4 (input of down_proj)");
  if (rotate.heads) names.push_back("heads (input of o_proj)");
  return names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", "));
}

/// The settings in which a recipe differs from the built-in one of its name; empty for a recipe of another name.
std::string changes_text(const Recipe& recipe) {
  const std::vector<std::string> known = recipe_names();
  if (std::find(known.begin(), known.end(), recipe.name) == known.end()) return {};
  const Recipe original = named_recipe(recipe.name);
  std::vector<std::string> changes;
  for (const RecipeField& field : recipe_fields()) {
    const Json value = field.get(recipe);
    if (field.key != "calibration.source" && value != field.get(original))
      changes.push_back(field.key + "=" + value.dump());
  }
  return fmt::format("{}", fmt::join(changes, ", "));
}

/// The formats of some blocks or linear layers, as --set takes them.
std::string overrides_text(const Recipe& recipe) {
  constexpr std::size_t most = 12;
  std::vector<std::string> settings;
  for (const FormatOverride& override : recipe.overrides) settings.push_back(override_setting(override));
  const std::size_t all = settings.size();
  if (all > most) settings.resize(most);
  std::string text = fmt::format("{}", fmt::join(settings, ", "));
  if (all > most) text += fmt::format(", and {} more, listed by --json", all - most);
  return text;
}

Json spreads_json(const std::vector<Spread>& spreads) {
  Json rows = Json::array();
  for (const Spread& s : spreads) {
    rows.push_back({{"name", s.name}, {"kind", s.kind}, {"min", s.min}, {"median", s.median}, {"max", s.max}});
  }
  return rows;
}

std::string spreads_text(const std::vector<Spread>& spreads, const std::string& title) {
  Table table({title, "kind", "min", "median", "max"});
  for (const Spread& s : spreads) {
    table.add_row(
        {s.name, s.kind, fmt::format("{:.4g}", s.min), fmt::format("{:.4g}", s.median), fmt::format("{:.4g}", s.max)});
  }
  return table.text();
}

Json sizes_json(const CheckpointSizes& sizes) {
  Json json{{"total_bytes", sizes.total()}};
  for (const Part part : all_parts) json[std::string(part_key(part)) + "_bytes"] = sizes[part];
  return json;
}

std::string sizes_text(const CheckpointSizes& sizes) {
  Table table({"part", "size", "share"});
  const double total = static_cast<double>(std::max<std::uint64_t>(1, sizes.total()));
  for (const Part part : all_parts) {
    if (sizes[part] == 0) continue;
    table.add_row({std::string(part_title(part)), bytes_text(sizes[part]),
                   fmt::format("{:.1f}%", 100.0 * static_cast<double>(sizes[part]) / total)});
  }
  table.add_row({"all tensors", bytes_text(sizes.total()), "100.0%"});
  return table.text();
}

Json tensors_json(const std::vector<io::TensorSummary>& tensors) {
  Json rows = Json::array();
  for (const auto& t : tensors) {
    rows.push_back({{"name", t.name},
                    {"dtype", io::dtype_name(t.dtype)},
                    {"shape", t.shape},
                    {"bytes", t.bytes},
                    {"file", t.file}});
  }
  return rows;
}

std::string tensors_text(const std::vector<io::TensorSummary>& tensors) {
  Table table({"tensor", "type", "shape", "size", "file"});
  for (const auto& t : tensors) {
    table.add_row({t.name, std::string(io::dtype_name(t.dtype)), io::shape_text(t.shape), bytes_text(t.bytes), t.file});
  }
  return table.text();
}

/// Each prefix token as text; empty when the tokenizer cannot be read, which a warning says.
std::vector<std::string> prefix_tokens(const io::QuantizedCheckpoint& checkpoint) {
  std::vector<std::string> texts;
  if (checkpoint.prefix().token_ids.empty()) return texts;
  try {
    const Tokenizer tokenizer = Tokenizer::load(checkpoint.directory());
    for (const std::int32_t id : checkpoint.prefix().token_ids) texts.push_back(tokenizer.token_text(id));
  } catch (const Error& error) {
    log_warning("{}", error.what());
  }
  return texts;
}

std::string prefix_fact(const io::QuantizedCheckpoint& checkpoint, const std::vector<std::string>& tokens) {
  const Prefix& prefix = checkpoint.prefix();
  if (prefix.empty()) return "none";
  if (prefix.token_ids.empty()) return fmt::format("{} positions that come from no known tokens", prefix.length);
  return fmt::format("{}   (token ids {})",
                     tokens.empty() ? checkpoint.prefix_text() : fmt::format("{}", fmt::join(tokens, "  ")),
                     fmt::join(prefix.token_ids, ", "));
}

void add_provenance(Facts& facts, const Json& provenance) {
  constexpr std::size_t longest = 90;
  for (const auto& [key, value] : provenance.items()) {
    std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    if (value.is_structured() && text.size() > longest)
      text = fmt::format("{} entries, listed by --json", value.size());
    facts.add(key, text);
  }
}

/// Makes page and model card again from what the checkpoint keeps; their paths.
std::vector<std::string> remake_reports(const std::filesystem::path& checkpoint, bool replace) {
  const std::filesystem::path path = checkpoint / io::report_record_file;
  std::error_code code;
  if (!std::filesystem::exists(path, code)) {
    throw InputError(path.string(), "no such file: this checkpoint keeps nothing to make a report of",
                     "quantize again with this version of the program");
  }
  const report::ReportRecord record = report::record_from_json(read_json_file(path), path.string());
  const std::array<io::CheckpointText, 2> texts{{{"report.html", report::to_html(report::to_page(record.report))},
                                                 {"README.md", report::to_markdown(record.card)}}};
  io::replace_texts(checkpoint, texts, replace);
  return {(checkpoint / texts[0].name).string(), (checkpoint / texts[1].name).string()};
}

void inspect_quantized(const Options& options, const CommonOptions& common) {
  const auto checkpoint = io::QuantizedCheckpoint::open(options.model);
  const Recipe& recipe = checkpoint.recipe();
  const auto& ids = checkpoint.prefix().token_ids;
  const std::vector<std::string> tokens = prefix_tokens(checkpoint);
  const std::vector<io::TensorSummary> tensors = checkpoint.tensors();
  const CheckpointSizes sizes = sizes_of(tensors);
  const double bits = bits_per_weight(sizes, checkpoint.spec());
  const CheckpointScales scales =
      scales_of(checkpoint.spec(), recipe, [&](std::int64_t i) { return checkpoint.block_without_weights(i); });
  std::vector<std::string> reports;
  if (options.report) reports = remake_reports(checkpoint.directory(), options.force);
  if (common.json) {
    Json json{{"model", options.model},
              {"quantized", true},
              {"quantized_by", "prefixquant"},
              {"architecture", architecture_json(checkpoint.spec())},
              {"recipe", recipe_to_json(recipe)},
              {"precision", precision_name(recipe)},
              {"site_transforms", site_transforms_to_json(checkpoint.site_transforms())},
              {"prefix_length", checkpoint.prefix().length},
              {"prefix_token_ids", ids},
              {"prefix_tokens", tokens},
              {"prefix_text", checkpoint.prefix_text()},
              {"sizes", sizes_json(sizes)},
              {"bits_per_weight", bits},
              {"scales", {{"sites", spreads_json(scales.sites)}, {"weights", spreads_json(scales.weights)}}},
              {"provenance", checkpoint.provenance()}};
    if (options.tensors) json["tensors"] = tensors_json(tensors);
    if (options.report) json["reports"] = reports;
    print_json(json);
    return;
  }
  Facts facts;
  facts.add("checkpoint", fmt::format("{}, quantized", options.model));
  facts.add("recipe", fmt::format("{} ({})", recipe.name, precision_name(recipe)));
  if (const std::string changes = changes_text(recipe); !changes.empty()) facts.add("changed", changes);
  facts.add("architecture", architecture_text(checkpoint.spec()));
  facts.add("weights", format_text(recipe.weight, ""));
  facts.add("activations", format_text(recipe.activation, mode_text(recipe.activation)));
  facts.add("KV cache", format_text(recipe.kv, mode_text(recipe.kv)) + keys_text(recipe));
  if (!recipe.overrides.empty()) facts.add("but", overrides_text(recipe));
  facts.add("rotations", rotations_text(recipe.rotate));
  facts.add("prefix", prefix_fact(checkpoint, tokens));
  facts.add("bits a weight", fmt::format("{:.3f}, scales and zero points included", bits));
  add_provenance(facts, checkpoint.provenance());
  print_result(facts.text() + "\n" + sizes_text(sizes));
  if (!scales.sites.empty()) print_result("\n" + spreads_text(scales.sites, "quantizer, over all blocks"));
  if (!scales.weights.empty()) print_result("\n" + spreads_text(scales.weights, "weight, over all blocks"));
  if (options.tensors) print_result("\n" + tensors_text(tensors));
  for (const std::string& path : reports) print_result(fmt::format("report: {}\n", path));
}

/// "compressed-tensors (pack-quantized)", "gptq", "gptq (gptq_v2)"
std::string method_text(const io::ForeignConfig& config) {
  return config.method == config.format ? config.method : fmt::format("{} ({})", config.method, config.format);
}

void inspect_foreign(const Options& options, const CommonOptions& common) {
  const auto checkpoint = io::ForeignCheckpoint::open(options.model);
  const ModelSpec& spec = checkpoint.spec();
  const Recipe& recipe = checkpoint.recipe();
  const std::vector<io::TensorSummary> tensors = tensors_of(checkpoint.rest());
  const CheckpointSizes sizes = sizes_of(tensors);
  const double bits = bits_per_weight(sizes, spec);
  bool reordered = false;
  const CheckpointScales scales = scales_of(spec, recipe, [&](std::int64_t i) {
    QuantizedBlock block = checkpoint.block_without_weights(i);
    reordered = reordered || block.transforms != SiteTransforms{};
    return block;
  });
  if (common.json) {
    Json json{{"model", options.model},
              {"quantized", true},
              {"quantized_by", checkpoint.config().method},
              {"architecture", architecture_json(spec)},
              {"recipe", recipe_to_json(recipe)},
              {"precision", precision_name(recipe)},
              {"activation_order", reordered},
              {"quantization_config", checkpoint.config().json},
              {"sizes", sizes_json(sizes)},
              {"bits_per_weight", bits},
              {"scales", {{"sites", spreads_json(scales.sites)}, {"weights", spreads_json(scales.weights)}}}};
    if (options.tensors) json["tensors"] = tensors_json(tensors);
    print_json(json);
    return;
  }
  Facts facts;
  facts.add("checkpoint", fmt::format("{}, quantized by another program", options.model));
  facts.add("format", fmt::format("{}, {}", method_text(checkpoint.config()), precision_name(recipe)));
  facts.add("architecture", architecture_text(spec));
  facts.add("weights", format_text(recipe.weight, ""));
  if (reordered) facts.add("columns", "in activation order: inputs are permuted while the model runs");
  facts.add("activations", format_text(recipe.activation, mode_text(recipe.activation)));
  facts.add("KV cache", format_text(recipe.kv, ""));
  facts.add("bits a weight", fmt::format("{:.3f}, scales and zero points included", bits));
  print_result(facts.text() + "\n" + sizes_text(sizes));
  if (!scales.sites.empty()) print_result("\n" + spreads_text(scales.sites, "quantizer, over all blocks"));
  print_result("\n" + spreads_text(scales.weights, "weight, over all blocks"));
  if (options.tensors) print_result("\n" + tensors_text(tensors));
}

void inspect_unquantized(const Options& options, const CommonOptions& common) {
  const auto checkpoint = io::HfCheckpoint::open(options.model);
  const std::vector<io::TensorSummary> tensors = tensors_of(checkpoint);
  const CheckpointSizes sizes = sizes_of(tensors);
  const std::string types = type_names(tensors);
  if (common.json) {
    Json json{{"model", options.model},
              {"quantized", false},
              {"architecture", architecture_json(checkpoint.spec())},
              {"dtype", types},
              {"tensor_count", tensors.size()},
              {"sizes", sizes_json(sizes)},
              {"bits_per_weight", bits_per_weight(sizes, checkpoint.spec())}};
    if (options.tensors) json["tensors"] = tensors_json(tensors);
    print_json(json);
    return;
  }
  Facts facts;
  facts.add("checkpoint", fmt::format("{}, not quantized", options.model));
  facts.add("architecture", architecture_text(checkpoint.spec()));
  facts.add("tensors", fmt::format("{}, {}", tensors.size(), types));
  print_result(facts.text() + "\n" + sizes_text(sizes));
  if (options.tensors) print_result("\n" + tensors_text(tensors));
}

}  // namespace

Verb inspect_verb() {
  return {"inspect", [](CLI::App& app, const CommonOptions& common) -> Action {
            auto options = std::make_shared<Options>();
            app.add_option(
                   "MODEL", options->model,
                   "A quantized checkpoint or a model: a directory, a GGUF file, or org/name in the Hugging Face cache")
                ->required();
            app.add_flag("--tensors", options->tensors, "List every tensor too");
            app.add_flag("--report", options->report,
                         "Write report.html and README.md (a model card) into a quantized checkpoint again");
            app.add_flag("--force", options->force, "With --report: replace them where they were changed, too");
            return [options, &common] {
              const std::filesystem::path path = io::resolve_model(options->model);
              if (io::is_quantized_checkpoint(path)) {
                inspect_quantized(*options, common);
              } else if (options->report) {
                throw InputError(options->model, "is no quantized checkpoint: it has no report",
                                 "pq analyze shows an unquantized model");
              } else if (io::is_foreign_checkpoint(path)) {
                inspect_foreign(*options, common);
              } else {
                inspect_unquantized(*options, common);
              }
              return 0;
            };
          }};
}

}  // namespace pq::cli
