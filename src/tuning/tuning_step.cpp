#include "tuning/tuning_step.h"

#include <algorithm>

#include "nn/batches.h"
#include "quant/token_maxima.h"
#include "tuning/exchange.h"

namespace pq::quant {
namespace {

constexpr std::int64_t gpu_part_tokens = 8192;
constexpr std::int64_t skipped_tokens = 3;  // of skip_mse
constexpr double smallest_square = 1e-12;

}  // namespace

at::Tensor token_weights(const at::Tensor& target, const Recipe& recipe, bool behind_prefix) {
  constexpr std::int64_t rows_together = 8;
  const bool normalized = recipe.finetune.loss == TuningLoss::normalized;
  const bool skip_largest = recipe.finetune.skip_mse && target.size(1) > skipped_tokens;
  at::Tensor weight = at::ones({target.size(0), target.size(1)});
  bool all_alike = !normalized;
  for (std::int64_t first = 0; first < target.size(0); first += rows_together) {
    const std::int64_t count = std::min(rows_together, target.size(0) - first);
    const at::Tensor part = target.narrow(0, first, count).to(at::kCPU);
    at::Tensor skip = at::zeros({count, target.size(1)}, at::kBool);
    if (behind_prefix) skip.copy_(upper_outlier_mask(token_maxima(part), recipe.prefix));
    if (skip_largest) skip.scatter_(1, std::get<1>(part.abs().mean(-1).topk(skipped_tokens, 1)), true);
    at::Tensor weights = weight.narrow(0, first, count);
    // A token of zeros has no size to compare its error with.
    if (normalized) weights.copy_(part.square().mean(-1).clamp_min(smallest_square).reciprocal());
    weights.masked_fill_(skip, 0);
    all_alike = all_alike && !skip.any().item<bool>();
  }
  return all_alike ? at::Tensor() : weight;
}

at::ScalarType compute_type(const Recipe& recipe) {
  return recipe.finetune.compute == ComputeType::bf16 ? at::kBFloat16 : at::kFloat;
}

TuningStep::TuningStep(const BlockPlace& place, const TuningStreams& streams, const TuningRun& run)
    : streams_(streams), run_(run), options_(place.model.options().dtype(compute_type(run.recipe))) {
  const std::int64_t first = place.prefix == nullptr ? 0 : place.prefix->length();
  model_ = place.model.computing_in(options_, first + streams.input.size(1));
  if (place.prefix != nullptr) prefix_ = {place.prefix->key.to(options_), place.prefix->value.to(options_)};
  context_ = model_.block(place.index, place.prefix != nullptr ? &prefix_ : nullptr);
}

std::vector<at::Tensor> parts_of_batch(const std::vector<std::int64_t>& rows, std::int64_t length,
                                       const at::Device& device) {
  const std::int64_t step = nn::sequences_together(length, device.is_cuda() ? gpu_part_tokens : nn::tokens_together);
  std::vector<at::Tensor> result;
  for (std::size_t begin = 0; begin < rows.size(); begin += static_cast<std::size_t>(step)) {
    const std::size_t end = std::min(rows.size(), begin + static_cast<std::size_t>(step));
    result.push_back(at::tensor(at::ArrayRef<std::int64_t>(rows.data() + begin, end - begin)));
  }
  return result;
}

std::vector<at::Tensor> TuningStep::parts(const std::vector<std::int64_t>& rows) const {
  return parts_of_batch(rows, streams_.input.size(1), options_.device());
}

at::Tensor TuningStep::loss_of(const nn::Block& block, const nn::Tap& tap, const at::Tensor& rows,
                               double elements) const {
  const at::Tensor output =
      nn::forward(block, context_, streams_.input.index_select(0, rows).to(options_), tap).to(at::kFloat);
  const auto distance = [&](const at::Tensor& target) {
    const at::Tensor squares = (output - target.index_select(0, rows).to(output.device())).square();
    if (!streams_.weight.defined()) return squares.sum() / elements;
    return (squares.sum(-1) * streams_.weight.index_select(0, rows).to(output.device())).sum() / elements;
  };
  switch (run_.recipe.finetune.target) {
    case TuningTarget::full_precision:
      return distance(streams_.target);
    case TuningTarget::quantized:
      return distance(streams_.quantized_target);
    case TuningTarget::both:
      break;
  }
  return (distance(streams_.target) + distance(streams_.quantized_target)) / 2;
}

void TuningStep::sum_gradients(const QuantizedWeights& weights, const TunableBlock& block) const {
  for (const nn::Linear& linear : weights.block.linears) sum_gradient(run_.processes, linear.weight);
  for (const at::Tensor& parameter : block.site_parameters()) sum_gradient(run_.processes, parameter);
}

double TuningStep::gradients(const TunableBlock& block, const SequenceShards::Batch& batch) {
  const at::AutoGradMode with_gradients(true);
  const QuantizedWeights weights = block.quantized_weights();
  const nn::Tap tap = block.tap();
  const double elements =
      static_cast<double>(batch.size) * static_cast<double>(streams_.input.size(1) * streams_.input.size(2));
  double loss = 0;
  for (const at::Tensor& rows : parts(batch.rows)) {
    const at::Tensor part = loss_of(weights.block, tap, rows, elements);
    loss += part.item<double>();
    if (part.requires_grad()) part.backward();  // with both rates 0 nothing is tuned
  }
  sum_gradients(weights, block);
  weights.backward();
  return sum(run_.processes, loss);
}

double TuningStep::judge(const TunableBlock& block) {
  const at::NoGradGuard no_grad;
  const QuantizedWeights weights = block.quantized_weights();
  const nn::Tap tap = block.tap();
  const double elements = static_cast<double>(run_.shards.judging_count()) *
                          static_cast<double>(streams_.input.size(1) * streams_.input.size(2));
  double loss = 0;
  for (const at::Tensor& rows : parts(run_.shards.judging_rows())) {
    loss += loss_of(weights.block, tap, rows, elements).item<double>();
  }
  return sum(run_.processes, loss);
}

}  // namespace pq::quant
