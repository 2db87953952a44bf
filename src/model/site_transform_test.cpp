#include "model/site_transform.h"

#include <gmock/gmock.h>

#include <string>

#include "base/error.h"
#include "model/spec_for_test.h"

namespace pq {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

const ModelSpec small = small_spec(48, 88, 6, 2, 12);

SiteTransforms one_of_each() {
  SiteTransforms transforms;
  transforms[Site::qkv_input].steps = {GatherStep{}, BlockDiagonalStep{16, 3, {}}};
  transforms[Site::k_cache].steps = {KroneckerStep{3, 4, {}, {}}, MultiplyStep{}};
  transforms[Site::o_input].steps = {KroneckerStep{6, 12, {}, {}}};
  transforms[Site::gate_up_input].steps = {BlockDiagonalStep{8, 1, {}}};
  transforms[Site::down_input].steps = {HadamardStep{88}};
  return transforms;
}

TEST(SiteTransforms, JsonComesBack) {
  const SiteTransforms transforms = one_of_each();
  const Json json = site_transforms_to_json(transforms);
  EXPECT_EQ(json["mlp.down_input"].dump(), R"([{"step":"hadamard","order":88}])");
  EXPECT_EQ(json["self_attn.qkv_input"].dump(),
            R"([{"step":"gather"},{"step":"block_diagonal","block":16,"matrices":3}])");
  EXPECT_EQ(json["self_attn.k_cache"].dump(), R"([{"step":"kronecker","left":3,"right":4},{"step":"multiply"}])");
  EXPECT_FALSE(json.contains("self_attn.v_cache"));
  EXPECT_EQ(site_transforms_from_json(json, small, "x"), transforms);
  EXPECT_EQ(site_transforms_from_json(Json::object(), small, "x"), SiteTransforms{});
}

TEST(SiteTransforms, RotationsAreHadamardSteps) {
  const SiteTransforms both = online_rotations(small, {});
  EXPECT_EQ(
      site_transforms_to_json(both).dump(),
      R"({"self_attn.k_cache":[{"step":"hadamard","order":12}],"mlp.down_input":[{"step":"hadamard","order":88}]})");
  EXPECT_EQ(online_rotations(small, {ResidualRotation::fused, true, false, false}), SiteTransforms{});
}

TEST(SiteTransforms, AppendingPutsStepsBehind) {
  SiteTransforms transforms = online_rotations(small, {});
  append(transforms, one_of_each());
  EXPECT_EQ(transforms[Site::k_cache].steps.size(), 3U);
  EXPECT_EQ(transforms[Site::k_cache].steps[0], TransformStep(HadamardStep{12}));
  EXPECT_EQ(transforms[Site::k_cache].steps[2], TransformStep(MultiplyStep{}));
  EXPECT_EQ(transforms[Site::o_input], one_of_each()[Site::o_input]);
}

template <typename E = FormatError>
std::string refusal(std::string_view text) {
  try {
    site_transforms_from_json(parse_json(text, "test"), small, "config.json");
  } catch (const E& error) {
    return error.what();
  }
  return {};
}

TEST(SiteTransforms, WhatDoesNotFitIsRefusedByName) {
  EXPECT_THAT(refusal("[]"), HasSubstr("config.json: is not an object of sites"));
  EXPECT_THAT(refusal(R"({"mlp.down_product": []})"), HasSubstr("there is no site 'mlp.down_product'"));
  EXPECT_THAT(refusal(R"({"mlp.down_input": []})"), HasSubstr("config.json: mlp.down_input: is not a list of steps"));
  EXPECT_THAT(refusal(R"({"mlp.down_input": ["hadamard"]})"), HasSubstr("a step is an object"));
  EXPECT_THAT(refusal<UnsupportedError>(R"({"mlp.down_input": [{"step": "fourier"}]})"),
              AllOf(HasSubstr("mlp.down_input"), HasSubstr("no step 'fourier'")));
  EXPECT_THAT(refusal(R"({"mlp.down_input": [{"step": "hadamard"}]})"), HasSubstr("no integer 'order'"));
  EXPECT_THAT(refusal(R"({"mlp.down_input": [{"step": "hadamard", "order": 8.0}]})"), HasSubstr("no integer 'order'"));
  EXPECT_THAT(refusal(R"({"mlp.down_input": [{"step": "hadamard", "order": 8, "signs": 1}]})"),
              HasSubstr("step 'hadamard' has an unknown field"));
  EXPECT_THAT(refusal(R"({"mlp.down_input": [{"step": "hadamard", "order": 16}]})"),
              AllOf(HasSubstr("mlp.down_input"), HasSubstr("order 16 does not divide 88")));
  EXPECT_THAT(refusal(R"({"self_attn.v_cache": [{"step": "multiply"}]})"),
              AllOf(HasSubstr("self_attn.v_cache"), HasSubstr("no transform at this site")));
}

TEST(SiteTransforms, TensorsOfStepsHaveNamesAndShapes) {
  std::string listed;
  SiteTransforms transforms = one_of_each();
  for (const Site site : quantized_sites) {
    for (TransformStep& step : transforms[site].steps) {
      visit_step_tensors(step, transform_size(small, site).value(),
                         [&](std::string_view name, const std::vector<std::int64_t>& shape, const auto& values) {
                           EXPECT_TRUE(values.empty());
                           listed += name;
                           for (const std::int64_t n : shape) listed += " " + std::to_string(n);
                           listed += "; ";
                         });
    }
  }
  EXPECT_EQ(listed,
            "permutation 48; matrices 3 16 16; left 3 3; right 4 4; factors 12; left 6 6; right 12 12; "
            "matrices 1 8 8; ");
}

}  // namespace
}  // namespace pq
