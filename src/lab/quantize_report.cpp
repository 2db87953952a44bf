#include "lab/quantize_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "base/error.h"
#include "base/file_kind.h"
#include "base/progress.h"
#include "base/version.h"
#include "io/block_tensors.h"
#include "model/block_formats.h"
#include "model/format_override.h"
#include "pipeline/mending.h"
#include "pipeline/plan.h"
#include "pipeline/prefix.h"
#include "program/shell_quote.h"
#include "report/number.h"

namespace pq::lab {
namespace {

constexpr double none = std::numeric_limits<double>::quiet_NaN();

double median_of(std::vector<float> values) {
  if (values.empty()) return none;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>((values.size() - 1) / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

report::QuantizationReport::Tuning tuning_of(const quant::Tuning& tuning, std::string name, std::string loss) {
  report::QuantizationReport::Tuning one{std::move(name),  std::move(loss), tuning.start_loss, tuning.end_loss, {}, {},
                                         tuning.kept_start};
  for (const quant::EpochLoss& epoch : tuning.epochs) {
    one.training.push_back(epoch.tuning);
    one.validation.push_back(epoch.validation);
  }
  return one;
}

/// As --set takes it.
std::string setting_text(const Json& value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

bool is_hub_name(const std::string& model) {
  std::error_code code;
  const std::size_t slash = model.find('/');
  const bool two_parts = slash != std::string::npos && slash > 0 && slash + 1 < model.size() &&
                         model.find('/', slash + 1) == std::string::npos;
  return two_parts && model.front() != '.' && !std::filesystem::exists(model, code);
}

/// "org/name" where that is known.
std::string base_model_of(const quant::Preparation& preparation, const std::string& model) {
  if (is_hub_name(model)) return model;
  return hub_repository(preparation.checkpoint().path()).value_or("");
}

/// What a command calls the model, on any machine.
std::string base_name(const quant::Preparation& preparation, const std::string& model) {
  const std::string base = base_model_of(preparation, model);
  return base.empty() ? last_name(model) : base;
}

report::HubFacts facts_of(const quant::Preparation& preparation) {
  const TextFiles& texts = preparation.checkpoint().texts();
  try {
    return texts.has("README.md") ? report::hub_facts(texts.read("README.md")) : report::HubFacts{};
  } catch (const Error&) {
    return {};  // a README that is none says nothing
  }
}

}  // namespace

void WatchingSink::block(std::int64_t index, QuantizedBlock block) {
  auto& weights = seen_.weight_scales.emplace_back();
  auto& scales = seen_.site_scales.emplace_back();
  auto& clips = seen_.site_clips.emplace_back();
  const BlockFormats formats = block_formats(recipe_, index);
  for (const LinearId id : all_linears) weights.push_back(median_of(block.linears[id].scales));
  for (const Site site : quantized_sites) {
    const QuantizerFormat& format = formats.site[site];
    const std::vector<float>& scale = block.sites[site].scale;
    scales.push_back(scale.empty() ? none : static_cast<double>(*std::max_element(scale.begin(), scale.end())));
    clips.push_back(format.enabled() && !format.is_static() ? static_cast<double>(block.sites[site].clip[0]) : none);
  }
  next_.block(index, std::move(block));
}

std::string last_name(const std::string& path) {
  const std::filesystem::path normal = std::filesystem::path(path).lexically_normal();
  return (normal.has_filename() ? normal : normal.parent_path()).filename().string();
}

void set_layer_errors(const std::vector<quant::LayerErrors>& errors, std::vector<std::string>& linears,
                      std::vector<std::vector<double>>& linear_errors, std::vector<std::vector<double>>& linear_costs,
                      std::vector<double>& block_errors) {
  linears.clear();
  for (const LinearId id : all_linears) linears.emplace_back(linear_name(id));
  for (const quant::LayerErrors& block : errors) {
    block_errors.push_back(block.block);
    std::vector<double>& own = linear_errors.emplace_back();
    std::vector<double>& cost = linear_costs.emplace_back();
    for (const quant::LinearError& error : block.linears) {
      own.push_back(error.output);
      cost.push_back(error.propagated);
    }
  }
}

void set_kinds(const ModelSpec& spec, const Recipe& recipe, const std::vector<quant::KindDamage>& damage,
               const std::vector<quant::LayerErrors>& errors, std::vector<report::KindCost>& kinds,
               report::MendingProposal& proposal) {
  for (const quant::Mendable& one : quant::ranked_kinds(spec, recipe, damage))
    kinds.push_back({one.name(), one.kl, one.mended.settings, one.mended.bits_per_weight});
  const quant::Proposal proposed = quant::propose(spec, recipe, damage, errors);
  for (const quant::Mendable& one : proposed.parts) proposal.names.push_back(one.name());
  proposal.settings = proposed.mended.settings;
  proposal.bits_per_weight = proposed.mended.bits_per_weight;
}

Json kinds_json(const std::vector<report::KindCost>& kinds) {
  Json json = Json::array();
  for (const report::KindCost& kind : kinds) {
    json.push_back({{"name", kind.name},
                    {"kl_divergence", kind.kl},
                    {"settings", kind.settings},
                    {"bits_per_weight", kind.bits_per_weight}});
  }
  return json;
}

Json proposal_json(const report::MendingProposal& proposal) {
  return {{"names", proposal.names},
          {"settings", proposal.settings},
          {"bits_per_weight", proposal.bits_per_weight},
          {"command", proposal.command}};
}

report::QuantizationReport quantization_report(quant::Preparation& preparation, const QuantizeOutcome& outcome,
                                               const SeenBlocks& seen) {
  const Recipe& recipe = outcome.recipe;
  report::QuantizationReport report;
  report.model = last_name(outcome.model);
  report.recipe = recipe.name;
  report.precision = precision_name(recipe);
  report.recipe_in_words = quant::recipe_in_words(recipe);
  if (!outcome.prefix.empty()) report.prefix_text = outcome.prefix_text;
  report.prefix_token_ids = outcome.prefix;
  report.calibration = preparation.calibration_name();
  for (const RecipeField& field : recipe_fields())
    report.settings.emplace_back(field.key, setting_text(field.get(recipe)));
  for (const FormatOverride& override : recipe.overrides)
    report.settings.emplace_back(override_key(override), override.value);
  const ModelSpec& spec = preparation.checkpoint().spec();
  set_layer_errors(outcome.summary.errors, report.linears, report.linear_errors, report.linear_costs,
                   report.block_errors);
  for (quant::RankedLinear& one : quant::worst_linears(spec, recipe, outcome.summary.errors)) {
    report.worst.push_back({static_cast<std::size_t>(one.block), std::string(linear_name(one.linear)),
                            one.error.propagated, one.error.output, one.error.weights, one.error.inputs,
                            std::move(one.mended.settings), one.mended.bits_per_weight});
  }
  set_kinds(spec, recipe, outcome.summary.kinds, outcome.summary.errors, report.kinds, report.proposal);
  report.proposal.command =
      quantize_command(base_name(preparation, outcome.model), last_name(outcome.out.string()) + "-mended",
                       outcome.asked, report.proposal.settings, report.calibration);
  report.bits_per_weight = io::bits_per_weight(spec, recipe);
  for (const Site site : quantized_sites) report.sites.emplace_back(site_name(site));
  report.weight_scales = seen.weight_scales;
  report.site_scales = seen.site_scales;
  report.site_clips = seen.site_clips;

  const std::string loss = recipe.finetune.loss == TuningLoss::mse ? "mean squared error" : "relative squared error";
  for (std::size_t i = 0; i < outcome.summary.tuning.size(); ++i)
    report.tuning.push_back(tuning_of(outcome.summary.tuning[i], fmt::format("block {}", i), loss));
  if (outcome.summary.end_to_end)
    report.tuning.push_back(tuning_of(*outcome.summary.end_to_end, "end to end", "negative log-likelihood (nats)"));

  report.block_seconds = outcome.summary.block_seconds;
  double rest = outcome.seconds - outcome.summary.seconds;
  if (quant::needs_outliers(recipe.prefix)) {
    const double seconds = preparation.outliers(recipe).seconds;
    report.steps.push_back({"outliers and prefix", seconds});
    rest -= seconds;
  }
  double known = 0;
  for (const quant::StepCost& step : outcome.summary.steps) {
    report.steps.push_back({step.name, step.seconds, step.private_bytes});
    known += step.seconds;
  }
  if (outcome.summary.end_to_end) {
    report.steps.push_back({"fine-tuning end to end", outcome.summary.end_to_end->seconds});
    known += outcome.summary.end_to_end->seconds;
  }
  rest += outcome.summary.seconds - known;
  report.steps.push_back({"calibration text, reading, writing", std::max(0.0, rest)});
  report.seconds = outcome.seconds;
  report.memory_bytes = outcome.memory_bytes;
  report.checkpoint_bytes = outcome.tensor_bytes;
  if (outcome.summary.outliers_measured) {
    const quant::RemainingOutliers& remaining = outcome.summary.remaining;
    report.remaining = {remaining.per_sequence, remaining.sequence_share, remaining.max_ratio};
  }
  return report;
}

std::string recipe_flags(const Recipe& recipe) {
  const std::vector<std::string> names = recipe_names();
  const bool named = std::find(names.begin(), names.end(), recipe.name) != names.end();
  const Recipe start = named ? named_recipe(recipe.name) : Recipe{};
  std::string flags = named ? "--recipe " + recipe.name : "";
  const auto add = [&](const std::string& setting) {
    flags += fmt::format("{}--set {}", flags.empty() ? "" : " ", shell_word(setting));
  };
  for (const RecipeField& field : recipe_fields()) {
    if (field.key == "name" || field.key == "calibration.source") continue;  // said otherwise
    const Json value = field.get(recipe);
    if (value == field.get(start)) continue;
    add(field.key + "=" + setting_text(value));
  }
  for (const FormatOverride& override : recipe.overrides) add(override_setting(override));
  return flags;
}

std::string quantize_command(const std::string& model, const std::string& out, const Recipe& recipe,
                             const std::vector<std::string>& settings, const std::string& calibration) {
  std::string command =
      fmt::format("pq quantize {} -o {} {}", shell_word(model), shell_word(out), recipe_flags(recipe));
  if (!settings.empty()) command += " " + report::set_flags(settings);
  return command + (calibration == "self" ? "" : " --calibration " + shell_word(calibration));
}

report::ModelCard model_card(quant::Preparation& preparation, const QuantizeOutcome& outcome) {
  const Recipe& recipe = outcome.recipe;
  report::ModelCard card;
  card.name = last_name(outcome.out.string());
  card.base_model = base_model_of(preparation, outcome.model);
  card.base = facts_of(preparation);
  card.program = fmt::format("prefixquant {}", version());
  card.recipe = recipe.name;
  card.precision = precision_name(recipe);
  card.recipe_in_words = quant::recipe_in_words(recipe);
  if (!outcome.prefix.empty()) card.prefix_text = outcome.prefix_text;
  card.prefix_token_ids = outcome.prefix;
  card.calibration = preparation.calibration_name();
  const std::string base_word = base_name(preparation, outcome.model);
  const std::string base = shell_word(base_word);
  const std::string self = shell_word(card.name);
  card.command = quantize_command(base_word, card.name, outcome.asked, {}, card.calibration);

  const double bits = io::bits_per_weight(preparation.checkpoint().spec(), recipe);
  card.sizes = {"", {"what", "size"}, {}};
  card.sizes.rows.push_back({"all tensors", format_bytes(static_cast<double>(outcome.tensor_bytes))});
  card.sizes.rows.push_back({"a weight of the linear layers, with its share of scales and zero points",
                             fmt::format("{} bits", report::short_number(bits))});
  card.measured = {"", {"measure", "value"}, {}};
  if (outcome.summary.outliers_measured) {
    const quant::RemainingOutliers& remaining = outcome.summary.remaining;
    card.measured.rows.push_back({"outlier tokens a sequence at the input of down_proj, the worst block",
                                  report::number(remaining.per_sequence, 3)});
    card.measured.rows.push_back({"sequences with one (%)", report::number(100 * remaining.sequence_share, 3)});
    card.measured.rows.push_back(
        {"largest magnitude of a token over the median", report::number(remaining.max_ratio, 3)});
  }
  card.commands = {fmt::format("pq run {} --prompt 'Once upon a time'", self), fmt::format("pq chat {}", self),
                   fmt::format("pq eval {} --text FILE --against {}", self, base), fmt::format("pq verify {}", self)};
  return card;
}

}  // namespace pq::lab
