#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "base/communicator.h"
#include "base/log.h"
#include "io/hf_checkpoint.h"
#include "nn/model_context.h"
#include "nn/transformer.h"
#include "quant/quantized_model.h"
#include "quant/rotate.h"
#include "tuning/tuning_step.h"

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

/// For tests: block 0 of the sample model as fine-tuning meets it, with the streams of a few short sequences that the
/// model itself wrote.
class TuningSample {
 public:
  explicit TuningSample(const Recipe& wanted, const std::vector<std::int32_t>& prefix_ids = {})
      : recipe(wanted),
        shards(recipe.finetune.samples, recipe.finetune.validation, recipe.finetune.batch, 0, 1),
        model(spec(), online_rotations(spec(), recipe.rotate), 512, options),
        context(model.block(0)),
        rotation_(spec(), recipe.rotate, recipe.seed, at::kCPU) {
    const at::NoGradGuard no_grad;
    block = nn::load_block(checkpoint(), 0, options);
    SiteTransforms online;
    rotation_.transform_block(0, block, online);
    if (!prefix_ids.empty()) {
      nn::KeyValue computed;
      nn::forward(block, context, stream(to_tensor({prefix_ids})), {}, &computed);
      prefix_ = restore_prefix(save_prefix(computed), spec(), static_cast<std::int64_t>(prefix_ids.size()), options);
      context = model.block(0, prefix());
    }
    const std::int64_t sequences = recipe.finetune.samples + recipe.finetune.validation;
    streams.input = stream(written(6, sequences, recipe.finetune.length));
    // Not the stream that the block itself would see: the blocks before, if any, were rounded.
    const at::Tensor plain = streams.input * 1.01;
    streams.target = nn::forward(block, context, plain);
    streams.quantized_target = nn::forward(block, context, streams.input);
    const at::Tensor searched = written(4, recipe.search.samples, recipe.search.length);
    start = find_start(block, context, stream(searched), statistics(), recipe, 0);
  }

  static const io::HfCheckpoint& checkpoint() {
    static const io::HfCheckpoint opened =
        io::HfCheckpoint::open(std::string(PQ_SOURCE_DIR) + "/examples/sample-model");
    return opened;
  }
  static const ModelSpec& spec() { return checkpoint().spec(); }
  const nn::KeyValue* prefix() const { return prefix_.length() > 0 ? &prefix_ : nullptr; }
  BlockPlace place(std::int64_t index = 0) const { return {model, index, prefix()}; }
  TuningRun run(io::ResumeJournal* journal = nullptr) const { return {recipe, shards, Communicator::world(), journal}; }

  /// Mean squared distance to `target` of the block that a checkpoint would hold, a sequence after the other.
  double obvious_loss(const BlockStart& of, const at::Tensor& target, const std::vector<std::int64_t>& rows) const {
    const at::NoGradGuard no_grad;
    const QuantizedBlock rounded = round_block(of, recipe, 0);
    const nn::Block restored = restore_block(rounded, spec(), recipe, 0, options);
    const nn::Tap tap = restore_tap(rounded, recipe, 0, options);
    double sum = 0;
    for (const std::int64_t row : rows) {
      const at::Tensor output = nn::forward(restored, context, streams.input.narrow(0, row, 1), tap);
      sum += (output - target.narrow(0, row, 1)).to(at::kDouble).square().sum().item<double>();
    }
    return sum / static_cast<double>(static_cast<std::int64_t>(rows.size()) * target.size(1) * target.size(2));
  }

  const at::TensorOptions options = at::TensorOptions().dtype(at::kFloat);
  Recipe recipe;
  SequenceShards shards;
  nn::ModelContext model;
  nn::BlockContext context;
  nn::Block block;  // in full precision, rotated
  TuningStreams streams;
  BlockStart start;

 private:
  static at::Tensor to_tensor(const std::vector<std::vector<std::int32_t>>& sequences) {
    std::vector<at::Tensor> rows;
    for (const auto& sequence : sequences) rows.push_back(at::tensor(at::ArrayRef<std::int32_t>(sequence)));
    return at::stack(rows).to(at::kLong);
  }
  /// Sequences first .. first+count-1 of those that the sample model writes, [count, length].
  static at::Tensor written(std::int64_t first, std::int64_t count, std::int64_t length) {
    constexpr std::int64_t all = 32;
    static std::map<std::int64_t, at::Tensor> known;
    at::Tensor& tokens = known[length];
    if (!tokens.defined()) {
      tokens = to_tensor(nn::Transformer::load(checkpoint(), at::kFloat)->sample(all, length, 1, 0));
    }
    return tokens.narrow(0, first, count);
  }
  at::Tensor stream(const at::Tensor& tokens) const {
    return rotation_.embedding_rows(nn::embed(checkpoint(), tokens, options)).to(at::kHalf).to(at::kFloat);
  }
  SiteStatistics statistics() const {
    SiteStatistics result;
    const nn::Tap tap = [&](Site site, const at::Tensor& x) {
      add_range(result, site, x);
      return x;
    };
    nn::forward(block, context, stream(written(0, recipe.calibration.samples, recipe.calibration.length)), tap);
    return result;
  }

  Rotation rotation_;
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
