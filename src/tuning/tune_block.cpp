#include "tuning/tune_block.h"

#include <fmt/format.h>

#include <vector>

#include "tuning/tunable_block.h"

namespace pq::quant {
namespace {

class BlockOnStreams : public Tunable {
 public:
  BlockOnStreams(const BlockPlace& place, const BlockStart& start, const TuningStreams& streams, const TuningRun& run)
      : start_(start),
        recipe_(run.recipe),
        index_(place.index),
        options_(place.model.options()),
        block_(begin()),
        step_(place, streams, run) {}

  const std::vector<Parameter>& parameters() const override { return block_.parameters(); }
  double gradients(const SequenceShards::Batch& batch) override { return step_.gradients(block_, batch); }
  double judge() override { return step_.judge(block_); }
  void restore() override { block_.copy_values(begin()); }
  BlockStart tuned() const { return block_.tuned(); }

 private:
  TunableBlock begin() const { return {start_, recipe_, index_, compute_type(recipe_), options_}; }

  const BlockStart& start_;
  const Recipe& recipe_;
  std::int64_t index_;
  at::TensorOptions options_;
  TunableBlock block_;
  TuningStep step_;
};

}  // namespace

Tuning tune_block(const BlockPlace& place, BlockStart& start, const TuningStreams& streams, const TuningRun& run) {
  BlockOnStreams tunable(place, start, streams, run);
  const TuningPlan plan{fmt::format("block {}", place.index), fmt::format("block-{}", place.index), place.index,
                        run.recipe.finetune.epochs, "finetune.weight_rate and finetune.quantizer_rate"};
  const Tuning tuning = tune(tunable, plan, run);
  if (!tuning.kept_start) start = tunable.tuned();
  return tuning;
}

}  // namespace pq::quant
