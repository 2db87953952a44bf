#pragma once

#include <ATen/ATen.h>

#include "nn/block.h"

namespace pq::nn {

/// A block of random parameters out of ATen's generator: norms in 0.5 .. 1.5, weights and biases normal of this
/// deviation.
inline Block random_block(const ModelSpec& spec, const at::TensorOptions& options, double deviation) {
  Block block;
  for (const NormRow& norm : all_norms(spec)) block.norms[norm.id] = at::rand({norm.size}, options) + 0.5;
  for (const LinearId id : all_linears) {
    const LinearShape shape = linear_shape(spec, id);
    block[id].weight = at::randn({shape.out_features, shape.in_features}, options) * deviation;
    if (shape.bias) block[id].bias = at::randn({shape.out_features}, options) * deviation;
  }
  return block;
}

}  // namespace pq::nn
