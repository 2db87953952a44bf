#include "model/block_formats.h"

#include <algorithm>

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

BlockFormats block_formats(const Recipe& recipe, std::int64_t /*index*/) {
  BlockFormats formats;
  for (QuantizerFormat& format : formats.weight) format = recipe.weight;
  for (const Site site : quantized_sites) formats.site[site] = is_kv(site) ? recipe.kv : recipe.activation;
  formats.center_keys = centers_keys(recipe);
  return formats;
}

std::vector<BlockFormats> distinct_formats(const Recipe& recipe) { return {block_formats(recipe, 0)}; }

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
