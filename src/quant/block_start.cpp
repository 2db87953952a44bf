#include "quant/block_start.h"

#include <memory>
#include <utility>

#include "model/block_formats.h"
#include "quant/gptq.h"
#include "quant/grid_search.h"

namespace pq::quant {

void add_range(SiteStatistics& statistics, Site site, const at::Tensor& x) {
  if (MinMaxTensors* range = statistics.find(site)) *range = merge(*range, static_slices(site, x));
}

bool needs_search(const Recipe& recipe) {
  return ((recipe.search.weight || recipe.search.gptq) && quantizes_weights(recipe)) ||
         (recipe.search.activation && quantizes_activations(recipe)) || (recipe.search.kv && quantizes_kv(recipe));
}

bool searches_in_one_walk(const Recipe& recipe) { return needs_search(recipe) && !recipe.search.exhaustive; }

BlockStart find_start(nn::Block block, const nn::BlockContext& context, const at::Tensor& stream,
                      const SiteStatistics& statistics, const Recipe& recipe, std::int64_t index) {
  const BlockFormats formats = block_formats(recipe, index);
  BlockStart start;
  start.block = std::move(block);
  std::unique_ptr<GridSearch> search;
  if (needs_search(recipe)) search = std::make_unique<GridSearch>(start.block, context, stream, recipe, formats);
  for (const Site site : quantized_sites) {
    const QuantizerFormat& format = formats.site[site];
    if (search) {
      start.sites[site] = search->site(site, statistics[site]);
    } else if (format.enabled()) {
      start.sites[site] = fixed_site_quantizer(statistics[site], format);
    }
  }
  if (search) search->finish_sites();
  const bool by_error = recipe.search.weight || recipe.search.gptq;  // of the weights' outputs
  Site gram_site = Site::qkv_input;
  at::Tensor gram;  // of the input that the linear layers at hand share, and what GPTQ makes of it
  at::Tensor factor;
  for (const LinearId id : all_linears) {
    const QuantizerFormat& format = formats.weight[id];
    if (!format.enabled()) continue;
    at::Tensor& weight = start.block[id].weight;
    if (by_error && (!gram.defined() || input_site(id) != gram_site)) {
      gram = at::Tensor();  // the old one goes before the new one comes
      gram_site = input_site(id);
      gram = search->gram(gram_site);
      if (recipe.search.gptq) factor = compensation_factor(gram, site_name(gram_site));
    }
    const at::Tensor clip = search ? search->weight_clip(id, gram) : fixed_clip(weight, format);
    start.weight_scales[id] = round_weight(weight, clip, factor, format).scales;
  }
  return start;
}

QuantizedBlock round_block(const BlockStart& start, const Recipe& recipe, std::int64_t index) {
  const BlockFormats formats = block_formats(recipe, index);
  QuantizedBlock rounded;
  for (const NormId id : norm_ids) {
    if (start.block.norms[id].defined()) rounded.norms[id] = to_floats(start.block.norms[id]);
  }
  rounded.sites = start.sites;
  const nn::KeyFrame& frame = start.block.key_frame;
  if (frame.basis.defined()) rounded.key_basis = to_floats(frame.basis);
  if (frame.mean.defined()) rounded.key_mean = to_floats(frame.mean);
  for (const LinearId id : all_linears) {
    const nn::Linear& linear = start.block[id];
    auto& target = rounded.linears[id];
    if (const QuantizerFormat& format = formats.weight[id]; format.enabled()) {
      const ScaleTensors scales = snapped(start.weight_scales[id], format);
      target = pack_linear({quantize_with_scales(linear.weight, scales, format), scales}, linear.bias, format);
    } else {
      checked_half_bits(linear.weight, tensor_names::linear(index, id));
      target = half_linear(linear.weight, linear.bias);
    }
  }
  return rounded;
}

}  // namespace pq::quant
