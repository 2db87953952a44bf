#include "quant/rotate.h"

#include <gtest/gtest.h>

#include "nn/transformer.h"

namespace pq::quant {
namespace {

ModelSpec small_spec(std::int64_t hidden, std::int64_t ffn, std::int64_t head_dim, bool bias) {
  ModelSpec spec;
  spec.family = bias ? Family::qwen2 : Family::llama;
  spec.hidden_size = hidden;
  spec.intermediate_size = ffn;
  spec.block_count = 2;
  spec.head_count = 4;
  spec.kv_head_count = 2;
  spec.head_dim = head_dim;
  spec.vocab_size = 50;
  spec.max_positions = 32;
  spec.rms_norm_eps = 1e-5;
  spec.rope_theta = 10000;
  spec.qkv_bias = bias;
  return spec;
}

nn::Transformer::Parts random_parts(const ModelSpec& spec) {
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

nn::Transformer::Parts rotated(nn::Transformer::Parts parts, const RotationSettings& settings) {
  const Rotation rotation(parts.spec, settings, 3, at::kCPU);
  parts.embedding = rotation.rotate_embedding(parts.embedding);
  parts.lm_head = rotation.rotate_lm_head(parts.lm_head, parts.final_norm);
  parts.final_norm = rotation.final_norm_after(parts.final_norm);
  for (nn::Block& block : parts.blocks) rotation.rotate_block(block);
  parts.r3 = settings.r3;
  parts.r4 = settings.r4;
  return parts;
}

at::Tensor logits(const nn::Transformer::Parts& parts) {
  nn::Transformer model(parts);
  const at::Tensor tokens = at::arange(24, at::kLong).view({1, 24});
  return model.head(model.hidden(tokens));
}

double largest_difference(const nn::Transformer::Parts& a, const nn::Transformer::Parts& b) {
  const at::NoGradGuard no_grad;
  return (logits(a) - logits(b)).abs().max().item<double>();
}

struct Size {
  std::int64_t hidden;
  std::int64_t ffn;
  std::int64_t head_dim;
  bool bias;
};

TEST(Rotation, LeavesTheModelsFunctionUnchangedInFloat64) {
  // 44 and 12 and 28 are Paley orders (not symmetric), 36 is Paley II, 46 has no construction.
  for (const Size size :
       {Size{32, 88, 8, false}, Size{48, 44, 12, true}, Size{56, 36, 16, true}, Size{36, 46, 20, false}}) {
    const auto parts = random_parts(small_spec(size.hidden, size.ffn, size.head_dim, size.bias));
    for (int mask = 1; mask < 16; ++mask) {
      const RotationSettings settings{(mask & 1) != 0, (mask & 2) != 0, (mask & 4) != 0, (mask & 8) != 0};
      EXPECT_LT(largest_difference(parts, rotated(parts, settings)), 1e-9) << size.ffn << " " << mask;
    }
  }
}

TEST(Rotation, AWrongDirectionOrAMissingOnlineRotationShows) {
  const auto parts = random_parts(small_spec(32, 44, 12, false));
  auto broken = rotated(parts, {});
  broken.r4 = false;
  EXPECT_GT(largest_difference(parts, broken), 1e-3);
  broken = rotated(parts, {false, false, false, true});
  const nn::Hadamard r4(44, at::TensorOptions().dtype(at::kDouble));
  for (std::size_t i = 0; i < parts.blocks.size(); ++i) {
    broken.blocks[i][LinearId::down].weight = r4.apply_transposed(parts.blocks[i][LinearId::down].weight);
  }
  EXPECT_GT(largest_difference(parts, broken), 1e-3);
}

TEST(Rotation, R1HasRandomSignsFromTheSeed) {
  const ModelSpec spec = small_spec(32, 44, 8, false);
  const at::Tensor rows = at::eye(32, at::TensorOptions().dtype(at::kDouble));
  const at::Tensor a = Rotation(spec, {}, 1, at::kCPU).rotate_embedding(rows);
  const at::Tensor b = Rotation(spec, {}, 2, at::kCPU).rotate_embedding(rows);
  EXPECT_TRUE(a.equal(Rotation(spec, {}, 1, at::kCPU).rotate_embedding(rows)));
  EXPECT_FALSE(a.equal(b));
  EXPECT_LT((at::mm(a, a.t()) - rows).abs().max().item<double>(), 1e-12);
}

}  // namespace
}  // namespace pq::quant
