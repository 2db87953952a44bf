#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <limits>
#include <vector>

#include "model/block_formats.h"
#include "model/quantized_block.h"
#include "model/recipe.h"
#include "nn/block.h"
#include "quant/quantizer.h"

namespace pq::quant {

/// The grids of ALGORITHM.md section 6. A factor always multiplies the min-max start.
namespace grids {
std::vector<double> static_coarse();           ///< .25 to .95, 8 values
std::vector<double> static_fine(double best);  ///< best +- .05, 10 values, best left out
std::vector<double> dynamic_clip();            ///< .6 to 1, 9 values
std::vector<double> kv_clip();                 ///< .3 to 1
}  // namespace grids

/// Searches the start values of one block's quantizers. Each is searched alone, the rest of the block in full
/// precision, on the quantized stream; the target is the full-precision block on that same stream. Behind a prefix, the
/// few tokens that are upper outliers all the same count in no criterion: one of them would outweigh thousands of
/// others.
class GridSearch {
 public:
  /// Runs the full-precision block on x [sequences, tokens, hidden] once and keeps what the searches read. Block,
  /// context and x are borrowed.
  GridSearch(const nn::Block& block, const nn::BlockContext& context, const at::Tensor& x, const Recipe& recipe,
             const BlockFormats& formats);

  /// X^T X of what the linears read that read `input`, [in, in].
  at::Tensor gram(Site input) const;

  /// Clip factors [out, groups] that minimize, for every output channel and group, the squared partial output error
  /// summed over the tokens. Ones when the search is switched off. `gram` is that of the linear's input.
  at::Tensor weight_clip(LinearId linear, const at::Tensor& gram) const;

  /// Parameters of the quantizer at `site`; `start` holds the min-max statistics of static formats.
  SiteQuantizer site(Site site, const MinMaxTensors& start) const;

  /// Lets go of what only site() and output_error() read; gram() and weight_clip() go on.
  void finish_sites();

  /// Sum over all elements of (block output with `quantizer` at `site` - full-precision output)^2. Once the sum is
  /// above `limit` it may stop: the result is above `limit` then, and no more is known. Over the first `sequences`
  /// sequences.
  double output_error(Site site, const SiteFakeQuantizer& quantizer,
                      double limit = std::numeric_limits<double>::infinity(),
                      std::int64_t sequences = std::numeric_limits<std::int64_t>::max()) const;

 private:
  const at::Tensor& input_at(Site site) const;
  at::Tensor factors_as_tensor(const std::vector<double>& factors, std::int64_t count) const;
  SiteQuantizer static_site(Site site, const MinMaxTensors& start) const;
  SiteQuantizer dynamic_site(Site site) const;
  at::Tensor search_key_factor(const QuantizerFormat& format, const MinMaxTensors& start) const;
  at::Tensor search_value_factor(const QuantizerFormat& format, const MinMaxTensors& start) const;
  double search_activation_factor(Site site, const QuantizerFormat& format, const MinMaxTensors& start) const;

  const nn::Block& block_;
  nn::BlockContext context_;
  Recipe recipe_;
  BlockFormats formats_;
  at::Tensor x_;  // [sequences, tokens, hidden]
  at::Tensor h_;  // qkv_input
  nn::Qkv qkv_;
  at::Tensor attended_;  // o_input
  at::Tensor middle_;    // residual stream between attention and MLP
  at::Tensor g_;         // gate_up_input
  at::Tensor product_;   // down_input
  at::Tensor output_;    // block output
  at::Tensor keep_;      // [sequences, tokens, 1], 1 for tokens that count, 0 for outliers; undefined when all count
};

}  // namespace pq::quant
