#include "tuning/finetune.h"

#include <fmt/format.h>

#include <vector>

#include "tuning/trainable_block.h"

namespace pq::quant {
namespace {

class BlockTrainee : public Trainee {
 public:
  BlockTrainee(const BlockStart& start, const nn::BlockContext& context, const TrainingStreams& streams,
               const TuningRun& run, const at::TensorOptions& options)
      : start_(start),
        run_(run),
        options_(options),
        block_(start, run.recipe, compute_type(run.recipe), options),
        step_(context, streams, run, options) {}

  const std::vector<Parameter>& parameters() const override { return block_.parameters(); }
  double gradients(const SequenceShards::Batch& batch) override { return step_.gradients(block_, batch); }
  double judge() override { return step_.judge(block_); }
  void keep_in_range() override { block_.keep_in_range(); }
  void restore() override {
    block_.copy_values(TrainableBlock(start_, run_.recipe, compute_type(run_.recipe), options_));
  }
  BlockStart trained() const { return block_.trained(); }

 private:
  const BlockStart& start_;
  const TuningRun& run_;
  at::TensorOptions options_;
  TrainableBlock block_;
  TrainingStep step_;
};

}  // namespace

Tuning finetune_block(std::int64_t index, BlockStart& start, const nn::BlockContext& context,
                      const TrainingStreams& streams, const TuningRun& run, const at::TensorOptions& options) {
  BlockTrainee trainee(start, context, streams, run, options);
  const TrainingPlan plan{fmt::format("block {}", index), fmt::format("block-{}", index), index,
                          run.recipe.finetune.epochs, "finetune.weight_rate and finetune.quantizer_rate"};
  const Tuning tuning = train(trainee, plan, run);
  if (!tuning.kept_start) start = trainee.trained();
  return tuning;
}

}  // namespace pq::quant
