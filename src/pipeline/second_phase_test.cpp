#include "pipeline/second_phase.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "pipeline/pipeline.h"

namespace pq::quant {
namespace {

namespace fs = std::filesystem;

const auto floats = at::TensorOptions().dtype(at::kFloat);

std::vector<float> all_scales(const std::vector<QuantizedBlock>& blocks) {
  std::vector<float> result;
  for (const QuantizedBlock& block : blocks) {
    for (const QuantizedLinear& linear : block.linears)
      result.insert(result.end(), linear.scales.begin(), linear.scales.end());
  }
  return result;
}

/// The sample model, all of it.
class SecondPhase : public testing::Test {
 protected:
  struct Blocks : DiscardingSink {
    void block(std::int64_t index, QuantizedBlock block) override {
      EXPECT_EQ(index, static_cast<std::int64_t>(blocks.size()));
      blocks.push_back(std::move(block));
    }
    std::vector<QuantizedBlock> blocks;
  };
  Recipe quick(const std::string& name) const {
    Recipe recipe = named_recipe(name);
    recipe.calibration.samples = 2;
    recipe.calibration.length = 64;
    recipe.search.samples = 2;
    recipe.search.length = 64;
    recipe.search.weight_step = 0.25;
    recipe.finetune.epochs = 0;
    recipe.finetune.samples = 16;
    recipe.finetune.length = 64;
    recipe.finetune.validation = 0;
    recipe.finetune.e2e_epochs = 2;
    recipe.finetune.e2e_rate = 2e-5;
    return recipe;
  }
  std::vector<QuantizedBlock> quantize(const Recipe& recipe, const std::vector<std::int32_t>& prefix,
                                       QuantizeSummary* summary = nullptr, io::ResumeJournal* journal = nullptr) const {
    Blocks sink;
    Recipe drawn = recipe;
    drawn.finetune.e2e_epochs = 1;
    const CalibrationData data = calibration_from_file((fs::path(PQ_SOURCE_DIR) / "examples" / "prose.txt").string(),
                                                       tokenizer, checkpoint.spec(), drawn);
    const QuantizeSummary result = quantize_model(checkpoint, recipe, prefix, data, floats, sink, {journal, {}});
    if (summary != nullptr) *summary = result;
    EXPECT_EQ(sink.blocks.size(), 6U);
    return std::move(sink.blocks);
  }
  static void expect_equal_but_for_scales(const std::vector<QuantizedBlock>& a, const std::vector<QuantizedBlock>& b) {
    ASSERT_EQ(a.size(), b.size());
    for (std::size_t i = 0; i < a.size(); ++i) {
      EXPECT_EQ(a[i].norms, b[i].norms);
      for (const LinearId j : all_linears) {
        EXPECT_EQ(a[i].linears[j].codes, b[i].linears[j].codes);
        EXPECT_EQ(a[i].linears[j].zero_points, b[i].linears[j].zero_points);
        EXPECT_EQ(a[i].linears[j].bias, b[i].linears[j].bias);
      }
      for (const Site j : quantized_sites) {
        EXPECT_EQ(a[i].sites[j].scale, b[i].sites[j].scale);
        EXPECT_EQ(a[i].sites[j].zero_point, b[i].sites[j].zero_point);
        EXPECT_EQ(a[i].sites[j].clip, b[i].sites[j].clip);
      }
    }
  }
  static Recipe without_second_phase(Recipe recipe) {
    recipe.finetune.e2e_epochs = 0;
    return recipe;
  }
  io::HfCheckpoint checkpoint =
      io::HfCheckpoint::open((fs::path(PQ_SOURCE_DIR) / "examples" / "sample-model").string());
  Tokenizer tokenizer = Tokenizer::load((fs::path(PQ_SOURCE_DIR) / "examples" / "sample-model").string());
};

TEST_F(SecondPhase, TheLossFallsAndScalesAloneChange) {
  const std::vector<std::int32_t> prefix{8142, 13, 1};
  for (const auto& [name, ids] : {std::pair{"w2a16g128", std::vector<std::int32_t>{}}, {"w4a4kv4-static", prefix}}) {
    const Recipe recipe = quick(name);
    QuantizeSummary summary;
    const auto tuned = quantize(recipe, ids, &summary);
    const auto plain = quantize(without_second_phase(recipe), ids);
    ASSERT_TRUE(summary.end_to_end.has_value());
    const Tuning& tuning = *summary.end_to_end;
    EXPECT_EQ(tuning.epochs.size(), 2U);
    EXPECT_FALSE(tuning.kept_start) << name;
    EXPECT_LT(tuning.end_loss, tuning.start_loss) << name;
    EXPECT_LT(tuning.epochs[1].tuning, tuning.epochs[0].tuning) << name;
    EXPECT_TRUE(quantize_summary_to_json(summary).contains("e2e"));
    EXPECT_TRUE(summary.tuning.empty());
    expect_equal_but_for_scales(tuned, plain);
    EXPECT_NE(all_scales(tuned), all_scales(plain));
  }
}

TEST_F(SecondPhase, WhatEndsWorseKeepsItsStart) {
  Recipe recipe = quick("w4a4kv4-static");
  recipe.finetune.e2e_epochs = 1;
  recipe.finetune.e2e_rate = 0.01;
  QuantizeSummary summary;
  const auto tuned = quantize(recipe, {13, 1}, &summary);
  EXPECT_TRUE(summary.end_to_end->kept_start);
  EXPECT_GT(summary.end_to_end->epochs[0].validation, summary.end_to_end->start_loss);
  const auto plain = quantize(without_second_phase(recipe), {13, 1});
  expect_equal_but_for_scales(tuned, plain);
  EXPECT_EQ(all_scales(tuned), all_scales(plain));
}

TEST_F(SecondPhase, FollowsTheBlocksAndGoesOnFromTheirJournal) {
  Recipe recipe = quick("w3a16g128");
  recipe.finetune.epochs = 1;
  recipe.finetune.e2e_epochs = 1;
  QuantizeSummary summary;
  const auto expected = quantize(recipe, {13, 1}, &summary);
  EXPECT_EQ(summary.tuning.size(), 6U);
  ASSERT_TRUE(summary.end_to_end.has_value());

  const fs::path directory = fs::path(testing::TempDir()) / "pq_e2e_pipeline_journal";
  fs::remove_all(directory);
  const auto with_journal = [&](const Recipe& with) {
    io::ResumeJournal journal(directory, Json::object(), checkpoint.spec(), recipe,
                              online_rotations(checkpoint.spec(), recipe.rotate));
    return quantize(with, {13, 1}, &summary, &journal);
  };
  const auto first_phase = with_journal(without_second_phase(recipe));
  EXPECT_FALSE(summary.end_to_end.has_value());
  for (int run = 0; run < 2; ++run) {  // the first tunes, the second finds all done
    const auto resumed = with_journal(recipe);
    EXPECT_EQ(summary.end_to_end->epochs.size(), 1U);
    expect_equal_but_for_scales(resumed, expected);
    EXPECT_EQ(all_scales(resumed), all_scales(expected));
    expect_equal_but_for_scales(resumed, first_phase);
    EXPECT_NE(all_scales(resumed), all_scales(first_phase));
  }
}

}  // namespace
}  // namespace pq::quant
