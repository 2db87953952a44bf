#include "pipeline/mending.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "io/block_tensors.h"
#include "model/spec_for_test.h"

namespace pq::quant {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

const ModelSpec spec = small_spec(256, 512, 4, 2, 64);

LinearError error(double weights, double inputs, double propagated = 1) {
  return {weights + inputs, weights, inputs, propagated};
}

TEST(Mending, NamesWhatHurts) {
  const Recipe recipe = named_recipe("w4a4kv4-static");
  EXPECT_THAT(mend(spec, recipe, 0, LinearId::down, error(0.1, 0.1)).settings,
              ElementsAre("blocks.0.linear.down_proj.weight.bits=8", "blocks.0.linear.down_proj.activation.bits=8"));
  EXPECT_THAT(mend(spec, recipe, 0, LinearId::down, error(0.01, 0.2)).settings,
              ElementsAre("blocks.0.linear.down_proj.activation.bits=8"));
  EXPECT_THAT(mend(spec, recipe, 0, LinearId::o, error(0.2, 0.01)).settings,
              ElementsAre("blocks.0.linear.o_proj.weight.bits=8"));
  // gate and up read the same numbers.
  EXPECT_THAT(mend(spec, recipe, 0, LinearId::up, error(0.01, 0.2)).settings,
              ElementsAre("blocks.0.linear.gate_proj.activation.bits=8", "blocks.0.linear.up_proj.activation.bits=8"));
}

const NumberKind down_inputs{NumberPart::inputs, {LinearId::down}};
const NumberKind down_weights{NumberPart::weights, {LinearId::down}};
const NumberKind o_inputs{NumberPart::inputs, {LinearId::o}};
const NumberKind gate_up_inputs{NumberPart::inputs, {LinearId::gate, LinearId::up}};
const NumberKind caches{NumberPart::caches};

TEST(Mending, OfAKindIsOfAllBlocks) {
  const Recipe recipe = named_recipe("w4a4kv4-static");
  EXPECT_THAT(mend(spec, recipe, std::nullopt, gate_up_inputs).settings,
              ElementsAre("linear.gate_proj.activation.bits=8", "linear.up_proj.activation.bits=8"));
  EXPECT_THAT(mend(spec, recipe, std::nullopt, down_weights).settings, ElementsAre("linear.down_proj.weight.bits=8"));
  EXPECT_THAT(mend(spec, recipe, std::nullopt, caches).settings, ElementsAre("kv.bits=8"));
  EXPECT_THAT(mend(spec, recipe, 0, caches).settings, ElementsAre("blocks.0.kv.bits=8"));
}

TEST(Mending, OfAKindMakesNoBlockNarrower) {
  Recipe recipe = named_recipe("w4a4kv4-static");
  apply_setting(recipe, "blocks.0.linear.down_proj.activation.bits=8");
  EXPECT_THAT(mend(spec, recipe, std::nullopt, down_inputs).settings,
              ElementsAre("linear.down_proj.activation.bits=8"));
  apply_setting(recipe, "blocks.0.linear.down_proj.activation.bits=16");
  EXPECT_THAT(mend(spec, recipe, std::nullopt, down_inputs).settings,
              ElementsAre("linear.down_proj.activation.bits=16"));
  apply_setting(recipe, "linear.down_proj.activation.bits=16");
  EXPECT_THAT(mend(spec, recipe, std::nullopt, down_inputs).settings, IsEmpty());
}

TEST(Mending, KindsAreThoseThatAreQuantized) {
  const Recipe recipe = named_recipe("w4a4kv4-static");
  EXPECT_EQ(quantized_kinds(recipe, 2).size(), 9U);  // weights and inputs of qkv, o, gate and up, down; K and V
  EXPECT_EQ(quantized_kinds(recipe, 2)[5], gate_up_inputs);
  EXPECT_EQ(quantized_kinds(recipe, 2)[5].name(), "inputs of gate_proj, up_proj");
  EXPECT_EQ(quantized_kinds(named_recipe("w4a16g128"), 2).size(), 4U);
  Recipe one = named_recipe("w4a16g128");
  apply_setting(one, "blocks.1.kv.bits=4");
  EXPECT_EQ(quantized_kinds(one, 2).back(), caches);
}

TEST(Mending, CountsTheBitsThatItCosts) {
  const Recipe recipe = named_recipe("w4a4kv4-static");
  const double before = io::bits_per_weight(spec, recipe);
  const double share = static_cast<double>(256 * 512) / static_cast<double>(block_parameters(spec) * spec.block_count);
  EXPECT_NEAR(mend(spec, recipe, 0, LinearId::down, error(1, 1)).bits_per_weight, before + 4 * share, 1e-9);
  EXPECT_EQ(mend(spec, recipe, 0, LinearId::down, error(0, 1)).bits_per_weight, before);
}

TEST(Mending, GoesTo16WhereThereAre8AndLeavesOutWhatIsWhole) {
  const Recipe w8 = named_recipe("w4a8kv4-static");
  EXPECT_THAT(mend(spec, w8, 0, LinearId::down, error(0.1, 0.1)).settings,
              ElementsAre("blocks.0.linear.down_proj.weight.bits=8", "blocks.0.linear.down_proj.activation.bits=16"));
  const Recipe weights = named_recipe("w4a16g128");
  EXPECT_THAT(mend(spec, weights, 0, LinearId::q, error(0.1, 0)).settings,
              ElementsAre("blocks.0.linear.q_proj.weight.bits=8"));
  EXPECT_THAT(mend(spec, weights, 0, caches).settings, IsEmpty());
}

TEST(Mending, EveryRecipesMendsAreRecipes) {
  for (const std::string& name : recipe_names()) {
    const Recipe recipe = named_recipe(name);
    for (const LinearId linear : all_linears) {
      Recipe mended = recipe;
      const Mend found = mend(spec, recipe, 0, linear, error(1, 1));
      for (const std::string& setting : found.settings) apply_setting(mended, setting);
      validate_recipe(mended, spec);
      EXPECT_NE(mended, recipe) << name;
      EXPECT_EQ(io::bits_per_weight(spec, mended), found.bits_per_weight);
    }
    for (const NumberKind& kind : quantized_kinds(recipe, spec.block_count)) {
      Recipe mended = recipe;
      const Mend found = mend(spec, recipe, std::nullopt, kind);
      for (const std::string& setting : found.settings) apply_setting(mended, setting);
      validate_recipe(mended, spec);
      EXPECT_NE(mended, recipe) << name << ": " << kind.name();
      EXPECT_EQ(io::bits_per_weight(spec, mended), found.bits_per_weight);
    }
  }
}

TEST(Mending, RanksByWhatReachesTheBlocksOutput) {
  std::vector<LayerErrors> errors(1);
  errors[0].linears[LinearId::gate] = error(0.9, 0.9, 0.001);  // large and harmless
  errors[0].linears[LinearId::o] = error(0.01, 0.01, 0.02);
  errors[0].linears[LinearId::v] = {std::nan(""), std::nan(""), std::nan(""), std::nan("")};
  const auto worst = worst_linears(spec, named_recipe("w4a4kv4-static"), errors, 10);
  ASSERT_EQ(worst.size(), 2U);
  EXPECT_EQ(worst[0].linear, LinearId::o);
  EXPECT_EQ(worst[1].linear, LinearId::gate);
}

/// Eight blocks: what down_proj reads hurts a little in each of them, o_proj's input in one of them more than any of
/// those, by the error in the block's output.
class Proposing : public testing::Test {
 protected:
  void SetUp() override {
    model.block_count = 8;
    errors.resize(8);
    for (LayerErrors& block : errors) {
      for (LinearError& one : block.linears) one = error(1e-4, 1e-4, 1e-6);
      block.linears[LinearId::down] = error(0.01, 0.05, 0.006);
    }
    errors[3].linears[LinearId::o] = error(0.001, 0.3, 0.02);
    kinds = {{down_inputs, 0.2}, {down_weights, 0.04}, {o_inputs, 0.1}, {gate_up_inputs, 0.001}, {caches, 0.5}};
  }
  Proposal propose_three() const { return propose(model, recipe, kinds, errors); }

  ModelSpec model = spec;
  const Recipe recipe = named_recipe("w4a4kv4-static");
  std::vector<LayerErrors> errors;
  std::vector<KindDamage> kinds;
};

TEST_F(Proposing, AKindThatHurtsEverywhereComesBeforeTheWorstLayer) {
  EXPECT_EQ(worst_linears(model, recipe, errors).front().linear, LinearId::o);  // layer by layer it is another
  const Proposal proposal = propose_three();
  ASSERT_EQ(proposal.parts.size(), 3U);
  EXPECT_EQ(proposal.parts[0].name(), "inputs of down_proj");
  EXPECT_THAT(proposal.parts[0].mended.settings, ElementsAre("linear.down_proj.activation.bits=8"));
  EXPECT_EQ(proposal.parts[1].name(), "inputs of o_proj");  // and block 3's is not named again
  EXPECT_EQ(ranked_kinds(model, recipe, kinds)[0].name(), "K and V");
}

TEST_F(Proposing, WhatTakesBitsHasToBringMore) {
  // Of down_proj's weights, which take a fifth of the bits, it is a block's that are worth most.
  kinds.resize(2);
  errors[5].linears[LinearId::down] = error(0.05, 0.05, 0.05);
  const Proposal proposal = propose_three();
  ASSERT_EQ(proposal.parts.size(), 3U);
  EXPECT_EQ(proposal.parts[0].name(), "inputs of down_proj");
  EXPECT_EQ(proposal.parts[1].name(), "weights of down_proj in block 5");
  EXPECT_EQ(proposal.parts[2].name(), "weights of down_proj in block 0");  // not all of them on top of those
  kinds[1].kl = 100;
  EXPECT_EQ(propose_three().parts[0].name(), "weights of down_proj in block 5");
}

TEST_F(Proposing, IsARecipeAsAWhole) {
  Recipe mended = recipe;
  const Proposal proposal = propose_three();
  for (const std::string& setting : proposal.mended.settings) apply_setting(mended, setting);
  validate_recipe(mended, model);
  EXPECT_NE(mended, recipe);
  EXPECT_EQ(io::bits_per_weight(model, mended), proposal.mended.bits_per_weight);
  EXPECT_LT(proposal.mended.bits_per_weight, io::bits_per_weight(model, recipe) + 0.3);
}

TEST_F(Proposing, LeavesOutWhatWasNotMeasured) {
  kinds = {{down_inputs, std::nan("")}, {o_inputs, 0.1}};
  const Proposal proposal = propose_three();
  ASSERT_EQ(proposal.parts.size(), 1U);
  EXPECT_EQ(proposal.parts[0].name(), "inputs of o_proj");
  kinds.clear();
  EXPECT_THAT(propose_three().parts, IsEmpty());
  EXPECT_THAT(propose_three().mended.settings, IsEmpty());
}

}  // namespace
}  // namespace pq::quant
