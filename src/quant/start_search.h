#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <vector>

#include "model/recipe.h"
#include "nn/block.h"
#include "quant/block_start.h"
#include "quant/token_maxima.h"

namespace pq::quant {

/// What one walk through a block leaves behind.
struct StartSearch {
  BlockStart start;
  SiteOutliers left;                  ///< outliers at down_proj's input, behind the prefix, over the search sequences
  std::vector<std::string> warnings;  ///< what the calibration says too little about, without the block's name
};

/// Start values of all quantizers of one block in a single walk through its stages: what q, k, v read, what o reads,
/// what gate and up read, what down reads. At each stage the inputs are those that come through what was rounded before
/// them, in the blocks before and in this one; ranges are measured on them, the quantizer is searched
/// (quant/site_search), the inputs are rounded, their X^T X is added up, and the weights that read them are rounded by
/// it (weight clip factors, then GPTQ). Cost, in forward passes of the block over the stream: one, and 1/3 for X^T X;
/// searches see a sample.
///
/// `stream` [sequences, tokens, hidden] has come through the quantized blocks before. Its first `search_sequences` set
/// ranges and searches, all of them count in X^T X. Behind a prefix, the few tokens that are upper outliers all the
/// same set no range and count in no criterion. Takes the block over. With `advance` the stream is taken through the
/// block as a checkpoint holds it, in place. `index` says its formats, and names it in errors: InputError where an
/// input is not finite.
StartSearch search_start(nn::Block block, const nn::BlockContext& context, at::Tensor& stream,
                         std::int64_t search_sequences, const Recipe& recipe, std::int64_t index, bool advance);

}  // namespace pq::quant
