#include "quant/rotate.h"

#include <gtest/gtest.h>

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
    for (int mask = 1; mask < 16; ++mask) {
      const RotationSettings settings{(mask & 1) != 0, (mask & 2) != 0, (mask & 4) != 0, (mask & 8) != 0};
      EXPECT_LT(largest_difference(parts, rotated(parts, settings)), 1e-9) << size.ffn << " " << mask;
    }
  }
}

TEST(Rotation, AWrongDirectionOrAMissingOnlineRotationShows) {
  const auto parts = random_parts(family_spec(32, 44, 12, false));
  auto broken = rotated(parts, {});
  for (SiteTransforms& online : broken.transforms) online[Site::down_input] = {};
  EXPECT_GT(largest_difference(parts, broken), 1e-3);
  broken = rotated(parts, {false, false, false, true});
  const nn::Hadamard r4(44, at::TensorOptions().dtype(at::kDouble));
  for (std::size_t i = 0; i < parts.blocks.size(); ++i) {
    broken.blocks[i][LinearId::down].weight = r4.apply_transposed(parts.blocks[i][LinearId::down].weight);
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
