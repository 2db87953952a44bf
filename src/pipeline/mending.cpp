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
  std::vector<std::string> settings{fmt::format("{}={}", key(block, linear, "weight.bits"), wider(bits))};
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

}  // namespace

Mend mend(const ModelSpec& spec, const Recipe& recipe, std::optional<std::int64_t> block, LinearId linear,
          const LinearError& error) {
  const LinearFormats formats = linear_formats(recipe, block.value_or(0));
  const QuantizerFormat& weight = formats.weight[linear];
  const QuantizerFormat& activation = formats.activation[linear];
  const double least = share_that_counts * error.output;
  const bool of_weights = weight.enabled() && (error.weights >= least || !activation.enabled());
  const bool of_inputs = activation.enabled() && (error.inputs >= least || !weight.enabled());
  std::vector<std::string> settings;
  if (of_weights) settings = weight_settings(spec, recipe, block, linear, weight.bits);
  if (of_inputs) {
    for (const LinearId id : readers_of(input_site(linear)))
      settings.push_back(fmt::format("{}={}", key(block, id, "activation.bits"), wider(activation.bits)));
  }
  return finished(spec, recipe, std::move(settings));
}

Mend mend_caches(const ModelSpec& spec, const Recipe& recipe, std::optional<std::int64_t> block) {
  const QuantizerFormat kv = linear_formats(recipe, block.value_or(0)).kv;
  std::vector<std::string> settings;
  if (kv.enabled()) settings.push_back(fmt::format("{}={}", key(block, std::nullopt, "kv.bits"), wider(kv.bits)));
  return finished(spec, recipe, std::move(settings));
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
