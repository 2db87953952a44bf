#include "quant/rotate.h"

#include <gtest/gtest.h>

#include <variant>
#include <vector>

#include "base/error.h"
#include "quant/transform_for_test.h"

namespace pq::quant {
namespace {

using testing::family_spec;
using testing::largest_difference;
using testing::random_parts;

nn::Transformer::Parts rotated(nn::Transformer::Parts parts, const RotationSettings& settings) {
  const Rotation rotation(parts.spec, settings, 3, at::kCPU);
  return testing::transformed(std::move(parts), rotation);
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
    const auto parts = random_parts(family_spec(size.hidden, size.ffn, size.head_dim, size.bias));
    for (int mask = 1; mask < 32; ++mask) {
      for (const ResidualRotation r1 : {ResidualRotation::fused, ResidualRotation::online}) {
        RotationSettings settings{(mask & 1) != 0 ? r1 : ResidualRotation::none, (mask & 2) != 0, (mask & 4) != 0,
                                  (mask & 8) != 0, (mask & 16) != 0};
        EXPECT_LT(largest_difference(parts, rotated(parts, settings)), 1e-9) << size.ffn << " " << mask;
        settings.signs = true;
        EXPECT_LT(largest_difference(parts, rotated(parts, settings)), 1e-9) << size.ffn << " " << mask;
      }
    }
  }
}

/// The arithmetic of each kind of family on 36 channels: what no other test of this folder has.
std::vector<ModelSpec> kinds_of_families() {
  const ModelSpec llama = family_spec(36, 44, 12, false);
  ModelSpec qwen3 = llama;
  qwen3.family = find_family("qwen3");
  qwen3.qk_norm = QkNorm::per_head;
  ModelSpec smollm3 = llama;
  smollm3.family = find_family("smollm3");
  smollm3.block_pattern = {{0, PlainRope{10000}}, {0, NoRope{}}};
  ModelSpec phi3 = llama;
  phi3.family = find_family("phi3");
  phi3.rotary_width = 8;
  ModelSpec granite = llama;
  granite.family = find_family("granite");
  granite.embedding_scale = 12;
  granite.residual_scale = 0.22;
  granite.attention_scale = 0.05;
  granite.logit_scale = 0.125;
  ModelSpec gemma3 = qwen3;
  gemma3.family = find_family("gemma3_text");
  gemma3.norm_placement = NormPlacement::sandwich;
  gemma3.activation = Activation::gelu_tanh;
  gemma3.embedding_scale = 6;
  gemma3.block_pattern = {{5, PlainRope{10000}}, {0, LinearRope{1000000, 8}}};
  ModelSpec olmo2 = llama;
  olmo2.family = find_family("olmo2");
  olmo2.norm_placement = NormPlacement::post;
  olmo2.qk_norm = QkNorm::all_heads;
  return {qwen3, smollm3, phi3, granite, gemma3, olmo2};
}

TEST(Rotation, LeavesEveryFamilyUnchanged) {
  for (const ModelSpec& spec : kinds_of_families()) {
    const auto parts = random_parts(spec);
    for (const ResidualRotation r1 : {ResidualRotation::automatic, ResidualRotation::online, ResidualRotation::none}) {
      EXPECT_LT(largest_difference(parts, rotated(parts, {r1, true, true, true, true})), 1e-9)
          << spec.family->model_type;
    }
    const bool fusable = spec.norm_placement == NormPlacement::pre;
    EXPECT_EQ(residual_rotation(spec, ResidualRotation::automatic),
              fusable ? ResidualRotation::fused : ResidualRotation::online);
    if (fusable) continue;
    EXPECT_THROW(rotated(parts, {ResidualRotation::fused, false, false, false}), UnsupportedError);
  }
}

TEST(Rotation, MistakesInOtherFamiliesShow) {
  for (const ModelSpec& spec : kinds_of_families()) {
    const auto parts = random_parts(spec);
    const RotationSettings online{ResidualRotation::online, false, false, false};
    if (spec.norm_placement != NormPlacement::pre) {
      // R1 fused through norms that stand behind attention and MLP: what must not be allowed.
      ModelSpec pretended = spec;
      pretended.norm_placement = NormPlacement::pre;
      const Rotation fused(pretended, {ResidualRotation::fused, false, false, false}, 3, at::kCPU);
      auto broken = parts;
      if (spec.norm_placement == NormPlacement::post) {
        for (nn::Block& block : broken.blocks) {
          block.norms[NormId::attention_input] = at::ones({spec.hidden_size}, at::kDouble);
          block.norms[NormId::mlp_input] = at::ones({spec.hidden_size}, at::kDouble);
        }
      }
      EXPECT_GT(largest_difference(parts, testing::transformed(broken, fused)), 1e-2) << spec.family->model_type;
    } else {
      // A norm's weight fused and kept, too.
      auto broken = rotated(parts, online);
      const auto right = parts.blocks[0].norms[NormId::attention_input];
      broken.blocks[0].norms[NormId::attention_input] = right;
      EXPECT_GT(largest_difference(parts, broken), 1e-3) << spec.family->model_type;
    }
    auto forgotten = rotated(parts, online);
    for (SiteTransforms& transforms : forgotten.transforms) transforms[Site::gate_up_input] = {};
    EXPECT_GT(largest_difference(parts, forgotten), 1e-2) << spec.family->model_type;
    ModelSpec inverted = spec;
    for (BlockSpec& block : inverted.block_pattern) {
      block.rope = std::holds_alternative<NoRope>(block.rope) ? RopeSpec(PlainRope{10000}) : RopeSpec(NoRope{});
    }
    auto without_rope = parts;
    without_rope.spec = inverted;
    EXPECT_GT(largest_difference(parts, without_rope), 1e-3) << spec.family->model_type;
  }
}

TEST(Rotation, AWrongDirectionOrAMissingOnlineRotationShows) {
  const auto parts = random_parts(family_spec(32, 44, 12, false));
  auto broken = rotated(parts, {});
  for (SiteTransforms& online : broken.transforms) online[Site::down_input] = {};
  EXPECT_GT(largest_difference(parts, broken), 1e-3);
  broken = rotated(parts, {ResidualRotation::none, false, false, true});
  const nn::Hadamard r4(44, at::TensorOptions().dtype(at::kDouble));
  for (std::size_t i = 0; i < parts.blocks.size(); ++i) {
    broken.blocks[i][LinearId::down].weight = r4.apply_transposed(parts.blocks[i][LinearId::down].weight);
  }
  EXPECT_GT(largest_difference(parts, broken), 1e-3);
}

TEST(Rotation, HeadsTakesTheTransposeAndBothHalves) {
  const auto parts = random_parts(family_spec(32, 44, 12, false));
  const RotationSettings settings{ResidualRotation::none, false, false, false, true};
  auto broken = rotated(parts, settings);
  for (SiteTransforms& online : broken.transforms) online[Site::o_input] = {};
  EXPECT_GT(largest_difference(parts, broken), 1e-3);
  broken = rotated(parts, settings);
  const nn::Hadamard heads(parts.spec.query_size(), at::TensorOptions().dtype(at::kDouble));
  ASSERT_FALSE(heads.apply(at::eye(parts.spec.query_size(), at::kDouble))
                   .equal(heads.apply_transposed(at::eye(parts.spec.query_size(), at::kDouble))));
  for (std::size_t i = 0; i < parts.blocks.size(); ++i) {
    broken.blocks[i][LinearId::o].weight = heads.apply_transposed(parts.blocks[i][LinearId::o].weight);
  }
  EXPECT_GT(largest_difference(parts, broken), 1e-3);
}

TEST(Rotation, R1HasRandomSignsFromTheSeed) {
  const ModelSpec spec = family_spec(32, 44, 8, false);
  const at::Tensor rows = at::eye(32, at::TensorOptions().dtype(at::kDouble));
  const at::Tensor a = Rotation(spec, {}, 1, at::kCPU).embedding_rows(rows);
  const at::Tensor b = Rotation(spec, {}, 2, at::kCPU).embedding_rows(rows);
  EXPECT_TRUE(a.equal(Rotation(spec, {}, 1, at::kCPU).embedding_rows(rows)));
  EXPECT_FALSE(a.equal(b));
  EXPECT_LT((at::mm(a, a.t()) - rows).abs().max().item<double>(), 1e-12);
}

}  // namespace
}  // namespace pq::quant
