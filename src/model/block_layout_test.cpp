#include "model/block_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>
#include <vector>

#include "model/spec_for_test.h"

namespace pq {
namespace {

using ::testing::ElementsAre;

const ModelSpec small = small_spec(16, 24, 4, 2, 8);

TEST(BlockLayout, EachNormIsReadByTheLinearsBehindIt) {
  const auto norms = all_norms(small);
  ASSERT_EQ(norms.size(), 2U);
  EXPECT_EQ(norms[0].id, NormId::attention_input);
  EXPECT_EQ(norms[0].name, "input_layernorm");
  EXPECT_EQ(norms[0].size, 16);
  EXPECT_THAT(norms[0].readers, ElementsAre(LinearId::q, LinearId::k, LinearId::v));
  EXPECT_EQ(norms[1].id, NormId::mlp_input);
  EXPECT_EQ(norms[1].name, "post_attention_layernorm");
  EXPECT_THAT(norms[1].readers, ElementsAre(LinearId::gate, LinearId::up));
  for (const LinearId linear : all_linears) {
    const auto norm = norm_read_by(small, linear);
    EXPECT_EQ(norm.has_value(), linear != LinearId::o && linear != LinearId::down);
    if (norm) {
      EXPECT_THAT(norms[static_cast<std::size_t>(*norm)].readers, ::testing::Contains(linear));
    }
  }
}

TEST(BlockLayout, ReadersOfASiteHaveOneWidth) {
  std::size_t readers = 0;
  for (const Site site : quantized_sites) {
    for (const LinearId linear : readers_of(site)) {
      EXPECT_EQ(input_site(linear), site);
      EXPECT_EQ(linear_shape(small, linear).in_features, linear_shape(small, readers_of(site)[0]).in_features);
      ++readers;
    }
  }
  EXPECT_EQ(readers, all_linears.size());
  EXPECT_TRUE(readers_of(Site::k_cache).empty());
  EXPECT_TRUE(readers_of(Site::block_output).empty());
}

TEST(BlockLayout, CountsTheParametersOfTheLinears) {
  EXPECT_EQ(block_parameters(small), 16 * 32 * 2 + 2 * 16 * 16 + 3 * 16 * 24);
}

TEST(PerId, HoldsOneValueAnIdInTheOrderOfTheList) {
  PerSite<int> sites;
  int next = 0;
  for (const Site site : quantized_sites) sites[site] = next++;
  EXPECT_THAT(std::vector(sites.begin(), sites.end()), ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_EQ(sites[Site::o_input], 3);
  EXPECT_EQ(*sites.find(Site::k_cache), 1);
  EXPECT_EQ(sites.find(Site::block_output), nullptr);
  EXPECT_THROW(sites[Site::query], std::out_of_range);
}

TEST(TensorNames, AreThoseOfHuggingFace) {
  EXPECT_EQ(tensor_names::norm(3, norm_row(small, NormId::attention_input)), "model.layers.3.input_layernorm.weight");
  EXPECT_EQ(tensor_names::norm(0, norm_row(small, NormId::mlp_input)),
            "model.layers.0.post_attention_layernorm.weight");
  EXPECT_EQ(tensor_names::linear(12, LinearId::o), "model.layers.12.self_attn.o_proj");
}

}  // namespace
}  // namespace pq
