#pragma once

// A small random model before and after a transform, for tests of this folder.

#include <ATen/ATen.h>

#include <cstdint>

#include "nn/transformer.h"
#include "quant/transform.h"

namespace pq::quant::testing {

inline ModelSpec small_spec(std::int64_t hidden, std::int64_t ffn, std::int64_t head_dim, bool bias) {
  ModelSpec spec;
  spec.family = find_family(bias ? "qwen2" : "llama");
  spec.hidden_size = hidden;
  spec.intermediate_size = ffn;
  spec.block_count = 2;
  spec.head_count = 4;
  spec.kv_head_count = 2;
  spec.head_dim = head_dim;
  spec.vocab_size = 50;
  spec.max_positions = 32;
  spec.rms_norm_eps = 1e-5;
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
    nn::Block block;
    for (const NormRow& norm : all_norms(spec)) block.norms[norm.id] = at::rand({norm.size}, options) + 0.5;
    for (const LinearId id : all_linears) {
      const LinearShape shape = linear_shape(spec, id);
      block[id].weight = at::randn({shape.out_features, shape.in_features}, options) * 0.3;
      if (shape.bias) block[id].bias = at::randn({shape.out_features}, options) * 0.3;
    }
    parts.blocks.push_back(block);
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
