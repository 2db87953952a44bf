#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "base/communicator.h"
#include "base/log.h"
#include "io/hf_checkpoint.h"
#include "nn/model_context.h"
#include "nn/transformer.h"
#include "pipeline/calibration.h"
#include "pipeline/outliers.h"
#include "quant/quantized_model.h"
#include "quant/rotate.h"
#include "tuning/training_step.h"

namespace pq::quant {

/// For tests: a recipe that a block of the sample model is done with in a second, with settings on top.
inline Recipe quick_recipe(const std::string& name, const std::vector<std::string>& settings = {}) {
  Recipe recipe = named_recipe(name);
  for (const char* setting : {"calibration.samples=4", "calibration.length=64", "search.samples=2", "search.length=64",
                              "search.weight_step=0.2", "finetune.epochs=2", "finetune.samples=16",
                              "finetune.length=48", "finetune.validation=4", "finetune.weight_rate=0.0001",
                              "finetune.quantizer_rate=0.0001", "finetune.loss=mse"}) {
    apply_setting(recipe, setting);
  }
  for (const std::string& setting : settings) apply_setting(recipe, setting);
  validate_recipe(recipe);
  return recipe;
}

/// For tests: block 0 of the sample model as fine-tuning meets it, with the streams of a few short sequences.
class TuningSample {
 public:
  explicit TuningSample(const Recipe& wanted, const std::vector<std::int32_t>& prefix_ids = {})
      : recipe(wanted),
        data(calibration_from_file(std::string(PQ_SOURCE_DIR) + "/examples/prose.txt", tokenizer(), spec(), recipe)),
        shards(data.training.samples(), data.validation.samples(), recipe.finetune.batch, 0, 1),
        rotation_(spec(), recipe.rotate, recipe.seed, at::kCPU) {
    const at::NoGradGuard no_grad;
    model_ = nn::ModelContext(spec(), nn::online_rotations(recipe), 512, options);
    context = model_.block(0);
    block = nn::load_block(checkpoint(), 0, options);
    rotation_.rotate_block(block);
    if (!prefix_ids.empty()) {
      CalibrationSet alone;
      alone.sequences.push_back(prefix_ids);
      nn::KeyValue computed;
      nn::forward(block, context, stream(alone), {}, &computed);
      prefix_ = restore_prefix(save_prefix(computed), spec(), static_cast<std::int64_t>(prefix_ids.size()), options);
      context = model_.block(0, &prefix_);
    }
    CalibrationSet sequences = data.training;
    sequences.sequences.insert(sequences.sequences.end(), data.validation.sequences.begin(),
                               data.validation.sequences.end());
    streams.input = stream(sequences);
    // Not the stream that the block itself would see: the blocks before, if any, were rounded.
    const at::Tensor plain = streams.input * 1.01;
    streams.target = nn::forward(block, context, plain);
    streams.quantized_target = nn::forward(block, context, streams.input);
    start = find_start(block, context, stream(data.search), statistics(), recipe);
  }

  static const io::HfCheckpoint& checkpoint() {
    static const io::HfCheckpoint opened =
        io::HfCheckpoint::open(std::string(PQ_SOURCE_DIR) + "/examples/sample-model");
    return opened;
  }
  static const ModelSpec& spec() { return checkpoint().spec(); }
  static const Tokenizer& tokenizer() {
    static const Tokenizer loaded = Tokenizer::load(std::string(PQ_SOURCE_DIR) + "/examples/sample-model");
    return loaded;
  }

  TuningRun run(io::ResumeJournal* journal = nullptr) const { return {recipe, shards, Communicator::world(), journal}; }

  /// Mean squared distance to `target` of the block that a checkpoint would hold, a sequence after the other.
  double obvious_loss(const BlockStart& of, const at::Tensor& target, const std::vector<std::int64_t>& rows) const {
    const at::NoGradGuard no_grad;
    const QuantizedBlock rounded = round_block(of, recipe, 0);
    const nn::Block restored = restore_block(rounded, spec(), recipe, options);
    const nn::Tap tap = restore_tap(rounded, recipe, options);
    double sum = 0;
    for (const std::int64_t row : rows) {
      const at::Tensor output = nn::forward(restored, context, streams.input.narrow(0, row, 1), tap);
      sum += (output - target.narrow(0, row, 1)).to(at::kDouble).square().sum().item<double>();
    }
    return sum / static_cast<double>(static_cast<std::int64_t>(rows.size()) * target.size(1) * target.size(2));
  }

  const at::TensorOptions options = at::TensorOptions().dtype(at::kFloat);
  Recipe recipe;
  CalibrationData data;
  SequenceShards shards;
  nn::BlockContext context;
  nn::Block block;  // in full precision, rotated
  TrainingStreams streams;
  BlockStart start;

 private:
  at::Tensor stream(const CalibrationSet& set) const {
    return rotation_.rotate_embedding(nn::embed(checkpoint(), to_token_tensor(set, at::kCPU), options))
        .to(at::kHalf)
        .to(at::kFloat);
  }
  SiteStatistics statistics() const {
    SiteStatistics result;
    const nn::Tap tap = [&](Site site, const at::Tensor& x) {
      if (MinMaxTensors* range = result.find(site)) *range = merge(*range, static_slices(site, x));
      return x;
    };
    nn::forward(block, context, stream(data.detection), tap);
    return result;
  }

  Rotation rotation_;
  nn::ModelContext model_;
  nn::KeyValue prefix_;
};

/// All that a checkpoint holds of a block is equal, bit for bit.
inline void expect_same_block(const QuantizedBlock& a, const QuantizedBlock& b) {
  EXPECT_EQ(a.norms, b.norms);
  for (const LinearId id : all_linears) {
    SCOPED_TRACE(tensor_names::linear_in_block(id));
    EXPECT_EQ(a.linears[id].codes, b.linears[id].codes);
    EXPECT_EQ(a.linears[id].scales, b.linears[id].scales);
    EXPECT_EQ(a.linears[id].zero_points, b.linears[id].zero_points);
    EXPECT_EQ(a.linears[id].weight, b.linears[id].weight);
    EXPECT_EQ(a.linears[id].bias, b.linears[id].bias);
  }
  for (const Site site : quantized_sites) {
    SCOPED_TRACE(site_name(site));
    EXPECT_EQ(a.sites[site].scale, b.sites[site].scale);
    EXPECT_EQ(a.sites[site].zero_point, b.sites[site].zero_point);
    EXPECT_EQ(a.sites[site].clip, b.sites[site].clip);
  }
}

/// No lines of the log between the tests' own, but for warnings.
class QuietLog {
 public:
  QuietLog() { set_log_level(LogLevel::quiet); }
  ~QuietLog() { set_log_level(before_); }
  QuietLog(const QuietLog&) = delete;
  QuietLog& operator=(const QuietLog&) = delete;

 private:
  LogLevel before_ = log_level();
};

}  // namespace pq::quant
