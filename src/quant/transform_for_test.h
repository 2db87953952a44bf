#pragma once

// A small random model before and after a transform, for tests of this folder.

#include <ATen/ATen.h>

#include <cstdint>

#include "model/spec_for_test.h"
#include "nn/block_for_test.h"
#include "nn/transformer.h"
#include "quant/transform.h"

namespace pq::quant::testing {

inline ModelSpec family_spec(std::int64_t hidden, std::int64_t ffn, std::int64_t head_dim, bool bias) {
  ModelSpec spec = small_spec(hidden, ffn, 4, 2, head_dim);
  spec.family = find_family(bias ? "qwen2" : "llama");
  spec.qkv_bias = bias;
  return spec;
}

inline nn::Transformer::Parts random_parts(const ModelSpec& spec) {
  at::manual_seed(7);
  const auto options = at::TensorOptions().dtype(at::kDouble);
  nn::Transformer::Parts parts;
  parts.spec = spec;
  parts.embedding = at::randn({spec.vocab_size, spec.hidden_size}, options);
  parts.lm_head = at::randn({spec.vocab_size, spec.hidden_size}, options) * 0.2;
  parts.final_norm = at::rand({spec.hidden_size}, options) + 0.5;
  for (std::int64_t i = 0; i < spec.block_count; ++i) {
    parts.blocks.push_back(nn::random_block(spec, options, 0.3));
  }
  return parts;
}

/// The model with transformed parameters, and what the transform leaves online.
inline nn::Transformer::Parts transformed(nn::Transformer::Parts parts, const Transform& transform) {
  parts.embedding = transform.embedding_rows(parts.embedding);
  parts.lm_head = transform.lm_head_rows(parts.lm_head, parts.final_norm);
  parts.final_norm = transform.final_norm(parts.final_norm);
  parts.transforms.resize(parts.blocks.size());
  for (std::size_t i = 0; i < parts.blocks.size(); ++i) {
    transform.transform_block(static_cast<std::int64_t>(i), parts.blocks[i], parts.transforms[i]);
  }
  return parts;
}

inline at::Tensor logits(const nn::Transformer::Parts& parts) {
  nn::Transformer model(parts);
  const at::Tensor tokens = at::arange(24, at::kLong).view({1, 24});
  return model.head(model.hidden(tokens));
}

inline double largest_difference(const nn::Transformer::Parts& a, const nn::Transformer::Parts& b) {
  const at::NoGradGuard no_grad;
  return (logits(a) - logits(b)).abs().max().item<double>();
}

}  // namespace pq::quant::testing
