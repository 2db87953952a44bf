#include "pipeline/second_phase.h"

#include "base/phase_timer.h"
#include "pipeline/block_tuning.h"
#include "pipeline/streams.h"
#include "tuning/end_to_end.h"

namespace pq::quant {

Tuning tune_scales(std::vector<QuantizedBlock>& blocks, const TransformedModel& model, const nn::ModelContext& contexts,
                   const PrefixStream& prefix, const CalibrationData& data, const TuningRun& run) {
  const PhaseTimer timer("fine-tuning end to end");
  EndToEndModel whole;
  whole.context = &contexts;
  whole.prefix = prefix.key_values();
  whole.final_norm = model.final_norm();
  whole.lm_head = model.lm_head(compute_type(run.recipe));
  whole.embed = [&](const at::Tensor& tokens) { return model.embed(tokens); };
  const at::Tensor tokens = to_token_tensor(owned_sequences(data, run.shards), at::kCPU);
  return tune_end_to_end(blocks, whole, tokens, run, model.options());
}

}  // namespace pq::quant
