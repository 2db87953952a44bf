#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "model/quantized_block.h"
#include "model/recipe.h"
#include "nn/block.h"
#include "quant/quantizer.h"

namespace pq::quant {

/// A block with the start values of all its quantizers: what is rounded as it stands, or tuned first.
struct BlockStart {
  /// Norms, biases and weights in full precision. With GPTQ the weights are those that it rounded: compensated for the
  /// errors of the columns before, so that rounding each to its nearest code gives GPTQ's codes.
  nn::Block block;
  PerLinear<ScaleTensors> weight_scales;  // [out, groups]; undefined with 16-bit weights
  PerSite<SiteQuantizer> sites;
};

using SiteStatistics = PerSite<MinMaxTensors>;
/// Widens the range of `site`, where that has a quantizer, by the values x that were seen there.
void add_range(SiteStatistics& statistics, Site site, const at::Tensor& x);

/// Whether the recipe searches anything, so that find_start() needs a stream.
bool needs_search(const Recipe& recipe);
/// Whether search_start() (quant/start_search) does it, which measures ranges itself; find_start() otherwise.
bool searches_in_one_walk(const Recipe& recipe);

/// The exhaustive grid search of one block (ALGORITHM.md section 6) and, where asked, GPTQ: the reference of
/// quant/start_search, and what serves where nothing is searched. `stream` [sequences, tokens, hidden]
/// has come through the quantized blocks before; it may be undefined when nothing is searched. `statistics` are read
/// for static formats. Takes the block over: its weights are replaced. `index`: which block's formats it gets.
BlockStart find_start(nn::Block block, const nn::BlockContext& context, const at::Tensor& stream,
                      const SiteStatistics& statistics, const Recipe& recipe, std::int64_t index);

/// The block as a checkpoint holds it. `index` says its formats, and names it in errors: UnsupportedError for a 16-bit
/// weight beyond the range of binary16.
QuantizedBlock round_block(const BlockStart& start, const Recipe& recipe, std::int64_t index);

}  // namespace pq::quant
