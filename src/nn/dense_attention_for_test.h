#pragma once

#include <ATen/ATen.h>

#include "nn/block.h"

namespace pq::nn {

/// attend() written the plain way: K and V repeated for every query head, the whole score matrix, one mask.
/// The first `pinned` keys are visible to all. Scores are scaled by 1/sqrt(head_dim), or by `scale` where it is not 0.
inline at::Tensor dense_attention(const Qkv& qkv, std::int64_t pinned, std::int64_t window, double scale = 0) {
  const std::int64_t tokens = qkv.q.size(1), keys = qkv.k.size(1), group = qkv.q.size(2) / qkv.k.size(2);
  const at::Tensor k = qkv.k.repeat_interleave(group, 2).permute({0, 2, 3, 1});  // [batch, heads, dim, keys]
  const at::Tensor v = qkv.v.repeat_interleave(group, 2).permute({0, 2, 1, 3});  // [batch, heads, keys, dim]
  if (scale == 0) scale = 1 / std::sqrt(static_cast<double>(qkv.q.size(3)));
  at::Tensor scores = at::matmul(qkv.q.permute({0, 2, 1, 3}), k) * scale;
  at::Tensor hidden = at::zeros({tokens, keys}, at::kBool);
  for (std::int64_t i = 0; i < tokens; ++i) {
    const std::int64_t position = keys - tokens + i;  // the query's own key
    for (std::int64_t j = pinned; j < keys; ++j) {
      hidden[i][j] = j > position || (window > 0 && j <= position - window);
    }
  }
  scores = scores.masked_fill(hidden, -std::numeric_limits<double>::infinity());
  return at::matmul(at::softmax(scores, -1), v).permute({0, 2, 1, 3}).reshape({qkv.q.size(0), tokens, -1});
}

}  // namespace pq::nn
