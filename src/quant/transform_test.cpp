#include "quant/transform.h"

#include <gtest/gtest.h>

#include "nn/online_transform.h"
#include "numerics/transform_for_test.h"
#include "quant/recipe_transforms.h"
#include "quant/rotate.h"
#include "quant/transform_for_test.h"

namespace pq::quant {
namespace {

using testing::family_spec;
using testing::largest_difference;
using testing::random_parts;
using testing::transformed;

const auto f64 = at::TensorOptions().dtype(at::kDouble);

at::Tensor factors(std::int64_t count, std::uint64_t seed) {
  at::manual_seed(seed);
  return at::rand({count}, f64) + 0.5;
}

/// Scales the channels between a norm and the layers that read it (as SmoothQuant does), and scales and reorders those
/// between up_proj and down_proj. `mistake` leaves one of the two sides out.
class ChannelScaling : public Transform {
 public:
  explicit ChannelScaling(bool mistake = false) : mistake_(mistake) {}
  void transform_block(std::int64_t index, nn::Block& block, SiteTransforms& /*online*/) const override {
    for (const NormId norm : {NormId::attention_input, NormId::mlp_input}) {
      const at::Tensor smooth = factors(block.norms[norm].size(0), static_cast<std::uint64_t>(index) + 1);
      block.norms[norm] = block.norms[norm] / smooth;
      for (const LinearId id : all_linears) {
        const bool reads =
            norm == NormId::attention_input ? input_site(id) == Site::qkv_input : input_site(id) == Site::gate_up_input;
        if (reads && !(mistake_ && id == LinearId::k)) block[id].weight = block[id].weight * smooth;
      }
    }
    const std::int64_t channels = block[LinearId::up].weight.size(0);
    const at::Tensor scale = factors(channels, 7);
    const at::Tensor order = at::randperm(channels, at::kLong);
    block[LinearId::up].weight = (block[LinearId::up].weight * scale.unsqueeze(1)).index_select(0, order);
    block[LinearId::gate].weight = block[LinearId::gate].weight.index_select(0, order);
    block[LinearId::down].weight = (block[LinearId::down].weight / scale).index_select(1, order);
  }

 private:
  bool mistake_;
};

/// Every kind of step at every site that can have one, another in every block. `mistake` multiplies weights with T
/// instead of its inverse, transposed.
class OnlineEverywhere : public Transform {
 public:
  explicit OnlineEverywhere(const ModelSpec& spec, bool mistake = false) : spec_(spec), mistake_(mistake) {}
  SiteTransforms online() const override { return without_values(of_block(0)); }
  void transform_block(std::int64_t index, nn::Block& block, SiteTransforms& online) const override {
    const SiteTransforms transforms = of_block(index);
    append(online, transforms);
    for (const LinearId id : all_linears) {
      const Site site = input_site(id);
      const nn::OnlineTransform transform(transforms[site], transform_size(spec_, site).value(), f64);
      block[id].weight = mistake_ ? transform.apply(block[id].weight) : transform.transform_weights(block[id].weight);
    }
  }

 private:
  SiteTransforms of_block(std::int64_t index) const {
    SiteTransforms transforms;
    for (const Site site : quantized_sites) {
      const auto size = transform_size(spec_, site);
      if (size) transforms[site] = every_step(*size, 20 + static_cast<std::uint64_t>(index));
    }
    return transforms;
  }

  ModelSpec spec_;
  bool mistake_;
};

template <typename... Transforms>
TransformList list_of(Transforms... transforms) {
  std::vector<std::unique_ptr<Transform>> all;
  (all.push_back(std::move(transforms)), ...);
  return TransformList(std::move(all));
}

class TransformTest : public ::testing::Test {
 protected:
  double change(const Transform& transform) const { return largest_difference(parts, transformed(parts, transform)); }
  std::unique_ptr<Transform> rotation() const {
    return std::make_unique<Rotation>(spec, RotationSettings{}, 3, at::kCPU);
  }
  const ModelSpec spec = family_spec(32, 44, 8, true);
  const nn::Transformer::Parts parts = random_parts(spec);
};

TEST_F(TransformTest, ListsLeaveTheModelsFunctionUnchanged) {
  EXPECT_LT(change(list_of()), 1e-14);
  EXPECT_LT(change(list_of(std::make_unique<ChannelScaling>())), 1e-9);
  EXPECT_LT(change(list_of(std::make_unique<OnlineEverywhere>(spec))), 1e-4);  // T^-T of Q is held in float32
  EXPECT_LT(change(list_of(std::make_unique<ChannelScaling>(), rotation())), 1e-9);
  EXPECT_LT(change(list_of(std::make_unique<ChannelScaling>(), rotation(), std::make_unique<OnlineEverywhere>(spec))),
            1e-4);
}

TEST_F(TransformTest, AMistakeInAnyOfThemShows) {
  EXPECT_GT(change(list_of(std::make_unique<ChannelScaling>(true), rotation())), 1e-2);
  EXPECT_GT(change(list_of(rotation(), std::make_unique<OnlineEverywhere>(spec, true))), 1e-2);
  // The MLP's channels lie in another basis behind R4.
  EXPECT_GT(change(list_of(rotation(), std::make_unique<ChannelScaling>())), 1e-2);
}

TEST_F(TransformTest, WhatStaysOnlineIsInTheOrderOfTheList) {
  const TransformList list = list_of(rotation(), std::make_unique<OnlineEverywhere>(spec));
  const SiteTransforms online = list.online();
  ASSERT_EQ(online[Site::down_input].steps.size(), 8U);
  EXPECT_EQ(online[Site::down_input].steps[0], TransformStep(HadamardStep{44}));
  EXPECT_EQ(online[Site::o_input].steps.size(), 7U);
  const auto after = transformed(parts, list);
  for (const SiteTransforms& block : after.transforms) EXPECT_EQ(without_values(block), online);
  EXPECT_NE(after.transforms[0], after.transforms[1]);
}

TEST(MakeTransforms, RotationsAreTheOnesThatARecipeAsksFor) {
  const ModelSpec spec = family_spec(32, 44, 8, false);
  Recipe recipe = named_recipe("w4a4kv4-static");
  EXPECT_EQ(TransformList(make_transforms(spec, recipe, at::kCPU)).online(), online_rotations(spec, recipe.rotate));
  recipe.rotate = {ResidualRotation::none, false, false, false};
  EXPECT_TRUE(make_transforms(spec, recipe, at::kCPU).empty());
}

}  // namespace
}  // namespace pq::quant
