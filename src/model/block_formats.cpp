#include "model/block_formats.h"

#include <algorithm>
#include <optional>

namespace pq {
namespace {

/// Whether a site of some block satisfies `test(site, format)`.
template <typename Test>
bool some_site(const Recipe& recipe, const Test& test) {
  const std::vector<BlockFormats> kinds = distinct_formats(recipe);
  return std::any_of(kinds.begin(), kinds.end(), [&](const BlockFormats& formats) {
    return std::any_of(quantized_sites.begin(), quantized_sites.end(),
                       [&](Site site) { return test(site, formats.site[site]); });
  });
}

}  // namespace

bool BlockFormats::quantizes_weights() const {
  return std::any_of(weight.begin(), weight.end(), [](const QuantizerFormat& format) { return format.enabled(); });
}

bool BlockFormats::quantizes_sites() const {
  return std::any_of(site.begin(), site.end(), [](const QuantizerFormat& format) { return format.enabled(); });
}

LinearFormats linear_formats(const Recipe& recipe, std::int64_t index) {
  // A recipe of one linear layer, or of K and V, so that a field's own `set` applies.
  const auto with_overrides = [&](std::optional<LinearId> linear) {
    Recipe one;
    one.weight = recipe.weight;
    one.activation = recipe.activation;
    one.kv = recipe.kv;
    one.kv_center_keys = recipe.kv_center_keys;
    one.kv_balance_keys = recipe.kv_balance_keys;
    for (const FormatOverride& override : recipe.overrides) {
      const bool counts = override.covers(index) && (!override.linear || override.linear == linear);
      if (counts) find_recipe_field(override.field)->set(one, override.value);
    }
    return one;
  };
  LinearFormats formats;
  const Recipe whole = with_overrides(std::nullopt);
  formats.kv = whole.kv;
  formats.kv_center_keys = whole.kv_center_keys;
  formats.kv_balance_keys = whole.kv_balance_keys;
  for (const LinearId linear : all_linears) {
    const Recipe one = recipe.overrides.empty() ? whole : with_overrides(linear);
    formats.weight[linear] = one.weight;
    formats.activation[linear] = one.activation;
  }
  return formats;
}

BlockFormats block_formats(const Recipe& recipe, std::int64_t index) {
  const LinearFormats of = linear_formats(recipe, index);
  BlockFormats formats;
  formats.weight = of.weight;
  for (const Site site : quantized_sites) {
    formats.site[site] = is_kv(site) ? of.kv : of.activation[readers_of(site).front()];
  }
  const bool measured = of.kv.enabled() && recipe.search.kv;
  formats.center_keys = of.kv_center_keys && measured;
  formats.balance_keys = of.kv_balance_keys && measured;
  return formats;
}

std::vector<std::int64_t> first_blocks_of_kinds(const Recipe& recipe) {
  std::vector<std::int64_t> blocks{0};
  for (const FormatOverride& override : recipe.overrides) {
    if (override.blocks) blocks.insert(blocks.end(), {override.blocks->first, override.blocks->last + 1});
  }
  std::sort(blocks.begin(), blocks.end());
  blocks.erase(std::unique(blocks.begin(), blocks.end()), blocks.end());
  return blocks;
}

std::vector<BlockFormats> distinct_formats(const Recipe& recipe) {
  std::vector<BlockFormats> kinds;
  for (const std::int64_t block : first_blocks_of_kinds(recipe)) {
    const BlockFormats formats = block_formats(recipe, block);
    if (std::find(kinds.begin(), kinds.end(), formats) == kinds.end()) kinds.push_back(formats);
  }
  return kinds;
}

bool quantizes_weights(const Recipe& recipe) {
  const std::vector<BlockFormats> kinds = distinct_formats(recipe);
  return std::any_of(kinds.begin(), kinds.end(), [](const BlockFormats& kind) { return kind.quantizes_weights(); });
}

bool quantizes_activations(const Recipe& recipe) {
  return some_site(recipe, [](Site site, const QuantizerFormat& format) { return !is_kv(site) && format.enabled(); });
}

bool quantizes_kv(const Recipe& recipe) {
  return some_site(recipe, [](Site site, const QuantizerFormat& format) { return is_kv(site) && format.enabled(); });
}

bool has_static_scales(const Recipe& recipe) {
  return some_site(recipe, [](Site, const QuantizerFormat& format) { return format.enabled() && format.is_static(); });
}

bool has_scales_of_a_call(const Recipe& recipe) {
  return some_site(recipe, [](Site, const QuantizerFormat& format) {
    return format.enabled() && !format.is_static() && format.granularity == Granularity::tensor;
  });
}

}  // namespace pq
