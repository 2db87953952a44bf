#include "pipeline/mending.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "io/block_tensors.h"
#include "model/block_formats.h"
#include "model/format_override.h"

namespace pq::quant {
namespace {

constexpr double share_that_counts = 0.1;
constexpr double least_growth = 0.01;
constexpr double most_bits_more = 0.3;
constexpr std::size_t most_single_layers = 40;

int wider(int bits) { return bits < 8 ? 8 : 16; }

std::string key(std::optional<std::int64_t> block, std::optional<LinearId> linear, std::string_view field) {
  FormatOverride override;
  if (block) override.blocks = BlockRange{*block, *block};
  override.linear = linear;
  override.field = std::string(field);
  return override_key(override);
}

std::optional<Recipe> with(const ModelSpec& spec, Recipe recipe, const std::vector<std::string>& settings) {
  try {
    for (const std::string& setting : settings) apply_setting(recipe, setting);
    validate_recipe(recipe, spec);
    return recipe;
  } catch (const Error&) {
    return std::nullopt;
  }
}

/// Weights with scales of two levels have 4 bits: wider ones give the levels up.
std::vector<std::string> weight_settings(const ModelSpec& spec, const Recipe& recipe, std::optional<std::int64_t> block,
                                         LinearId linear, int bits) {
  std::vector<std::string> settings{fmt::format("{}={}", key(block, linear, "weight.bits"), bits)};
  if (with(spec, recipe, settings)) return settings;
  settings.insert(settings.begin(), key(block, linear, "weight.two_level") + "=false");
  if (with(spec, recipe, settings)) return settings;
  return {};
}

Mend finished(const ModelSpec& spec, const Recipe& recipe, std::vector<std::string> settings) {
  const std::optional<Recipe> mended = with(spec, recipe, settings);
  if (!mended) settings.clear();
  return {std::move(settings), io::bits_per_weight(spec, mended.value_or(recipe))};
}

/// How much of the error in the block's output a part of a layer is held responsible for: as it is at the layer.
double error_of(const LinearError& error, NumberPart part) {
  const double own = part == NumberPart::weights ? error.weights : error.inputs;
  const double share = error.propagated * own / (error.weights + error.inputs);
  return std::isfinite(share) ? share : 0;
}

double error_of(const LayerErrors& errors, const NumberKind& kind) {
  double sum = 0;
  for (const LinearId linear : kind.linears) sum += error_of(errors.linears[linear], kind.part);
  return sum;
}

/// A kind's KL divergence shared out to the layers that it is of; not mended yet.
std::vector<Mendable> single_layers(const KindDamage& damage, const std::vector<LayerErrors>& errors) {
  double sum = 0;
  for (const LayerErrors& block : errors) sum += error_of(block, damage.kind);
  std::vector<Mendable> layers;
  for (std::size_t block = 0; sum > 0 && block < errors.size(); ++block) {
    const auto add = [&](const NumberKind& kind) {
      layers.push_back({static_cast<std::int64_t>(block), kind, damage.kl * error_of(errors[block], kind) / sum, {}});
    };
    if (damage.kind.part == NumberPart::inputs) add(damage.kind);
    if (damage.kind.part != NumberPart::weights) continue;
    for (const LinearId linear : damage.kind.linears) add({NumberPart::weights, {linear}});
  }
  return layers;
}

bool covers(const Mendable& all, const Mendable& one) {
  return !all.block && all.kind.part == one.kind.part &&
         std::all_of(one.kind.linears.begin(), one.kind.linears.end(), [&](LinearId linear) {
           const std::vector<LinearId>& linears = all.kind.linears;
           return std::find(linears.begin(), linears.end(), linear) != linears.end();
         });
}

void sort_by_kl(std::vector<Mendable>& all) {
  std::erase_if(all, [](const Mendable& one) { return !(one.kl > 0 && std::isfinite(one.kl)); });
  std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.kl > b.kl; });
}

}  // namespace

std::string Mendable::name() const { return block ? fmt::format("{} in block {}", kind.name(), *block) : kind.name(); }

Mend mend(const ModelSpec& spec, const Recipe& recipe, std::int64_t block, LinearId linear, const LinearError& error) {
  const LinearFormats formats = linear_formats(recipe, block);
  const QuantizerFormat& weight = formats.weight[linear];
  const QuantizerFormat& activation = formats.activation[linear];
  const double least = share_that_counts * error.output;
  const bool of_weights = weight.enabled() && (error.weights >= least || !activation.enabled());
  const bool of_inputs = activation.enabled() && (error.inputs >= least || !weight.enabled());
  std::vector<std::string> settings;
  if (of_weights) settings = weight_settings(spec, recipe, block, linear, wider(weight.bits));
  if (of_inputs) {
    for (const LinearId id : readers_of(input_site(linear)))
      settings.push_back(fmt::format("{}={}", key(block, id, "activation.bits"), wider(activation.bits)));
  }
  return finished(spec, recipe, std::move(settings));
}

Mend mend(const ModelSpec& spec, const Recipe& recipe, std::optional<std::int64_t> block, const NumberKind& kind) {
  const Widths widths = widths_of(recipe, spec.block_count, block, kind);
  std::vector<std::string> settings;
  if (widths.least >= 16) return finished(spec, recipe, {});
  const int bits = std::max(wider(widths.least), widths.most);  // narrower in no block
  if (kind.part == NumberPart::caches) settings = {fmt::format("{}={}", key(block, std::nullopt, "kv.bits"), bits)};
  for (const LinearId linear : kind.linears) {
    if (kind.part == NumberPart::inputs) {
      settings.push_back(fmt::format("{}={}", key(block, linear, "activation.bits"), bits));
    } else {
      const std::vector<std::string> of_layer = weight_settings(spec, recipe, block, linear, bits);
      settings.insert(settings.end(), of_layer.begin(), of_layer.end());
    }
  }
  return finished(spec, recipe, std::move(settings));
}

std::vector<Mendable> ranked_kinds(const ModelSpec& spec, const Recipe& recipe, const std::vector<KindDamage>& kinds) {
  std::vector<Mendable> ranked;
  for (const KindDamage& one : kinds)
    ranked.push_back({std::nullopt, one.kind, one.kl, mend(spec, recipe, std::nullopt, one.kind)});
  sort_by_kl(ranked);
  return ranked;
}

Proposal propose(const ModelSpec& spec, const Recipe& recipe, const std::vector<KindDamage>& kinds,
                 const std::vector<LayerErrors>& errors, std::size_t most) {
  std::vector<Mendable> singles;
  for (const KindDamage& one : kinds) {
    const std::vector<Mendable> layers = single_layers(one, errors);
    singles.insert(singles.end(), layers.begin(), layers.end());
  }
  sort_by_kl(singles);
  singles.resize(std::min(singles.size(), most_single_layers));
  for (Mendable& one : singles) one.mended = mend(spec, recipe, one.block, one.kind);
  std::vector<Mendable> all = ranked_kinds(spec, recipe, kinds);
  std::erase_if(all, [](const Mendable& one) { return one.kind.part == NumberPart::caches; });
  all.insert(all.end(), singles.begin(), singles.end());
  const double bits = io::bits_per_weight(spec, recipe);
  const auto worth = [&](const Mendable& one) {
    return one.kl / std::max(one.mended.bits_per_weight / bits - 1, least_growth);
  };
  std::stable_sort(all.begin(), all.end(), [&](const auto& a, const auto& b) { return worth(a) > worth(b); });
  Proposal proposal{{}, {{}, bits}};
  for (const Mendable& one : all) {
    if (proposal.parts.size() == most) break;
    const std::vector<Mendable>& before = proposal.parts;
    const bool known = std::any_of(before.begin(), before.end(),
                                   [&](const auto& other) { return covers(other, one) || covers(one, other); });
    if (known || one.mended.settings.empty()) continue;
    std::vector<std::string> settings = proposal.mended.settings;
    settings.insert(settings.end(), one.mended.settings.begin(), one.mended.settings.end());
    Mend together = finished(spec, recipe, std::move(settings));
    if (together.settings.empty() || together.bits_per_weight >= bits + most_bits_more) continue;
    proposal.parts.push_back(one);
    proposal.mended = std::move(together);
  }
  return proposal;
}

std::vector<RankedLinear> worst_linears(const ModelSpec& spec, const Recipe& recipe,
                                        const std::vector<LayerErrors>& errors, std::size_t most) {
  std::vector<RankedLinear> all;
  for (std::size_t block = 0; block < errors.size(); ++block) {
    for (const LinearId linear : all_linears) {
      const LinearError& error = errors[block].linears[linear];
      if (error.propagated > 0 && std::isfinite(error.propagated))
        all.push_back({static_cast<std::int64_t>(block), linear, error, {}});
    }
  }
  std::stable_sort(all.begin(), all.end(), [](const RankedLinear& a, const RankedLinear& b) {
    return a.error.propagated > b.error.propagated;
  });
  all.resize(std::min(all.size(), most));
  for (RankedLinear& one : all) one.mended = mend(spec, recipe, one.block, one.linear, one.error);
  return all;
}

}  // namespace pq::quant
