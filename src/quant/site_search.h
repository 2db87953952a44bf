#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "model/quantized_block.h"
#include "model/recipe.h"
#include "nn/block.h"
#include "quant/quantizer.h"

namespace pq::quant {

/// What a search found for one site, and how.
struct SiteChoice {
  SiteQuantizer quantizer;
  double factor = 1;           ///< of the range (static) or gamma (dynamic); of several heads the one nearest an edge
  bool at_edge = false;        ///< the factor is the least or the largest that is tried
  std::int64_t evaluated = 0;  ///< rows times candidates that it took
};

/// The weights [out, in] of all linear layers that read one input, in at most `rows` random combinations with signs
/// (CountSketch, Charikar et al. 2002): |d W^T|^2 of a row d is, in the mean over the signs, that of the result.
at::Tensor sketch(const std::vector<at::Tensor>& weights, std::int64_t rows, std::uint64_t seed);

/// Searches the quantizer of a linear layer's input on rows x [rows, in] of it, in random order: the smallest squared
/// error of x^ W^T, with `weights` [combinations, in] of sketch(). Static formats: a factor of `range`; dynamic ones:
/// clip factors.
SiteChoice search_input(Site site, const QuantizerFormat& format, const at::Tensor& x, const at::Tensor& weights,
                        const MinMaxTensors& range);

/// Searches K's quantizer: the smallest squared error of the scores, of a sample of the queries against all keys that
/// they see (of the attention probabilities it would be that of a few sharp heads: worse on real models). One factor a
/// KV head where it is static.
SiteChoice search_keys(const QuantizerFormat& format, const nn::Qkv& qkv, const nn::BlockContext& context,
                       const MinMaxTensors& range);
/// Searches V's quantizer: the smallest squared error of V itself. v [batch, tokens, kv_heads, head_dim].
SiteChoice search_values(const QuantizerFormat& format, const at::Tensor& v, const MinMaxTensors& range);

}  // namespace pq::quant
