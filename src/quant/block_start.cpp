#include "quant/block_start.h"

#include <memory>
#include <utility>

#include "quant/gptq.h"
#include "quant/grid_search.h"

namespace pq::quant {

void add_range(SiteStatistics& statistics, Site site, const at::Tensor& x) {
  if (MinMaxTensors* range = statistics.find(site)) *range = merge(*range, static_slices(site, x));
}

bool needs_search(const Recipe& recipe) {
  return ((recipe.search.weight || recipe.search.gptq) && recipe.weight.enabled()) ||
         (recipe.search.activation && recipe.activation.enabled()) || (recipe.search.kv && recipe.kv.enabled());
}

bool searches_in_one_walk(const Recipe& recipe) { return needs_search(recipe) && !recipe.search.exhaustive; }

BlockStart find_start(nn::Block block, const nn::BlockContext& context, const at::Tensor& stream,
                      const SiteStatistics& statistics, const Recipe& recipe) {
  BlockStart start;
  start.block = std::move(block);
  std::unique_ptr<GridSearch> search;
  if (needs_search(recipe)) search = std::make_unique<GridSearch>(start.block, context, stream, recipe);
  for (const Site site : quantized_sites) {
    const QuantizerFormat& format = recipe.format_of(site);
    if (search) {
      start.sites[site] = search->site(site, statistics[site]);
    } else if (format.enabled()) {
      start.sites[site] = fixed_site_quantizer(statistics[site], format);
    }
  }
  if (search) search->finish_sites();
  if (!recipe.weight.enabled()) return start;
  const bool by_error = recipe.search.weight || recipe.search.gptq;  // of the weights' outputs
  Site gram_site = Site::qkv_input;
  at::Tensor gram;  // of the input that the linear layers at hand share, and what GPTQ makes of it
  at::Tensor factor;
  for (const LinearId id : all_linears) {
    at::Tensor& weight = start.block[id].weight;
    if (by_error && (!gram.defined() || input_site(id) != gram_site)) {
      gram = at::Tensor();  // the old one goes before the new one comes
      gram_site = input_site(id);
      gram = search->gram(gram_site);
      if (recipe.search.gptq) factor = compensation_factor(gram, site_name(gram_site));
    }
    const at::Tensor clip = search ? search->weight_clip(id, gram) : fixed_clip(weight, recipe.weight);
    start.weight_scales[id] = round_weight(weight, clip, factor, recipe.weight).scales;
  }
  return start;
}

QuantizedBlock round_block(const BlockStart& start, const Recipe& recipe, std::int64_t index) {
  QuantizedBlock rounded;
  for (const NormId id : norm_ids) {
    if (start.block.norms[id].defined()) rounded.norms[id] = to_floats(start.block.norms[id]);
  }
  rounded.sites = start.sites;
  if (start.block.key_mean.defined()) rounded.key_mean = to_floats(start.block.key_mean);
  for (const LinearId id : all_linears) {
    const nn::Linear& linear = start.block[id];
    auto& target = rounded.linears[id];
    if (recipe.weight.enabled()) {
      const ScaleTensors scales = snapped(start.weight_scales[id], recipe.weight);
      target =
          pack_linear({quantize_with_scales(linear.weight, scales, recipe.weight), scales}, linear.bias, recipe.weight);
    } else {
      checked_half_bits(linear.weight, tensor_names::linear(index, id));
      target = half_linear(linear.weight, linear.bias);
    }
  }
  return rounded;
}

}  // namespace pq::quant
