#include "tuning/end_to_end.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "model/block_formats.h"
#include "quant/quantized_model.h"
#include "tuning/exchange.h"
#include "tuning/tuning_step.h"

namespace pq::quant {
namespace {

constexpr std::string_view where = "end-to-end tuning";
constexpr std::int64_t logits_together = std::int64_t{1} << 24;

std::string scales_name(std::int64_t block, LinearId id) { return tensor_names::linear(block, id) + ".scales"; }

}  // namespace

ScaleTuning::ScaleTuning(const std::vector<QuantizedBlock>& blocks, const EndToEndModel& model,
                         const at::Tensor& tokens, const TuningRun& run, const at::TensorOptions& options)
    : blocks_(blocks),
      model_(model),
      spec_(model.context->spec()),
      run_(run),
      options_(options.dtype(compute_type(run.recipe))),
      tokens_(tokens) {
  const auto count = static_cast<std::size_t>(spec_.block_count);
  if (blocks.size() != count || (!model.prefix.empty() && model.prefix.size() != count)) {
    throw InputError(where, fmt::format("{} blocks and prefixes of {} for a model of {}", blocks.size(),
                                        model.prefix.size(), count));
  }
  if (tokens.dim() != 2 || tokens.size(0) != static_cast<std::int64_t>(run.shards.owned().size()) ||
      (tokens.size(0) > 0 && tokens.size(1) < 2)) {
    throw InputError(where, "the sequences are not those of the run, or have no token to predict");
  }
  if (!quantizes_weights(run.recipe)) throw InputError(where, "the weights are not quantized", "set weight.bits");
  const std::int64_t first = model.prefix.empty() ? 0 : model.prefix.front().length();
  context_ = model.context->computing_in(options_, first + tokens.size(1));
  for (const nn::KeyValue& kv : model.prefix) prefix_.push_back({kv.key.to(options_), kv.value.to(options_)});
  final_norm_ = model.final_norm.to(options_);
  lm_head_ = model.lm_head.to(options_);
  for (std::int64_t index = 0; index < spec_.block_count; ++index) {
    const auto fixed = [](const std::string&, ParameterKind, const at::Tensor& value) { return value; };
    const BlockFormats formats = block_formats(run.recipe, index);
    sites_.push_back(
        std::make_unique<TunableSites>(blocks[static_cast<std::size_t>(index)].sites, formats.site, options_, fixed));
    first_parameter_.push_back(parameters_.size());
    for (const LinearId id : all_linears) {
      if (!formats.weight[id].enabled()) continue;
      layers_.push_back({static_cast<std::size_t>(index), id});
      const at::Tensor scale = start_scales(parameters_.size());
      const double rate = learning_rate(run.recipe.finetune, run.recipe.finetune.e2e_rate, scale_unit(scale));
      parameters_.push_back(make_parameter(scales_name(index, id), ParameterKind::weight_scale, scale, rate));
      parameters_.back().value.set_requires_grad(true);  // at a rate of 0 too: a step goes through every block
    }
  }
}

at::Tensor ScaleTuning::start_scales(std::size_t parameter) const {
  const auto [block, id] = layers_[parameter];
  const QuantizedLinear& linear = blocks_[block].linears[id];
  const std::int64_t rows = linear_shape(spec_, id).out_features;
  return from_floats(linear.scales, {rows, static_cast<std::int64_t>(linear.scales.size()) / rows},
                     options_.dtype(at::kFloat));
}

nn::BlockContext ScaleTuning::context(std::int64_t index) const {
  return context_.block(index, prefix_.empty() ? nullptr : &prefix_[static_cast<std::size_t>(index)]);
}

QuantizedWeights ScaleTuning::quantized_weights(std::int64_t index) const {
  const auto block = static_cast<std::size_t>(index);
  const QuantizedBlock& source = blocks_[block];
  const BlockFormats formats = block_formats(run_.recipe, index);
  QuantizedWeights result;
  result.block = restore_unquantized(source, spec_, options_);
  std::size_t parameter = first_parameter_[block];
  for (const LinearId id : all_linears) {
    const QuantizedLinear& linear = source.linears[id];
    const LinearShape shape = linear_shape(spec_, id);
    if (!linear.bias.empty()) result.block[id].bias = from_floats(linear.bias, {shape.out_features}, options_);
    const QuantizerFormat& format = formats.weight[id];
    if (!format.enabled()) {
      result.set(id, unpack_linear(linear, shape, format, options_).weight);
      continue;
    }
    WeightCodes codes = unpack_codes(linear, shape, format, options_.device());
    const at::Tensor& tuned = parameters_[parameter++].value;
    codes.scales.scale =
        format.two_level ? tuned * whole_group_scales(codes.scales) : held_scales({tuned, {}}, format).scale;
    result.set(id, dequantize_weight(codes, format).to(options_));
  }
  return result;
}

at::Tensor ScaleTuning::forward(const at::Tensor& tokens, std::vector<at::Tensor>* inputs) const {
  const at::NoGradGuard no_grad;
  at::Tensor x = model_.embed(tokens).to(options_);
  for (std::int64_t index = 0; index < spec_.block_count; ++index) {
    if (inputs != nullptr) inputs->push_back(x);
    x = nn::forward(quantized_weights(index).block, context(index), x, sites_[static_cast<std::size_t>(index)]->tap());
  }
  return x;
}

at::Tensor ScaleTuning::backward(std::int64_t index, at::Tensor input, const at::Tensor& gradient) const {
  const bool unscaled = index == 0 && (layers_.empty() || layers_.front().block > 0);
  if (unscaled) return {};  // nothing in it has a gradient, and nothing before it wants one
  const at::AutoGradMode with_gradients(true);
  const QuantizedWeights weights = quantized_weights(index);
  input.set_requires_grad(index > 0);
  nn::forward(weights.block, context(index), input, sites_[static_cast<std::size_t>(index)]->tap()).backward(gradient);
  weights.backward();
  return input.grad();
}

double ScaleTuning::loss(const at::Tensor& hidden, const at::Tensor& tokens, double count, at::Tensor* gradient) const {
  const at::AutoGradMode mode(gradient != nullptr);
  const std::int64_t predicted = tokens.size(1) - 1;
  const at::Tensor rows = hidden.narrow(1, 0, predicted).reshape({-1, hidden.size(2)});
  const at::Tensor targets = tokens.narrow(1, 1, predicted).reshape({-1}).to(options_.device());
  at::Tensor gradients;
  if (gradient != nullptr) {
    *gradient = at::zeros_like(hidden);
    gradients = at::empty_like(rows);
  }
  const std::int64_t step = std::max<std::int64_t>(1, logits_together / lm_head_.size(0));
  double sum = 0;
  for (std::int64_t first = 0; first < rows.size(0); first += step) {
    const std::int64_t taken = std::min(step, rows.size(0) - first);
    at::Tensor x = rows.narrow(0, first, taken).detach();
    x.set_requires_grad(gradient != nullptr);
    const at::Tensor logits = nn::project_logits(spec_, lm_head_, nn::rms_norm(x, final_norm_, spec_.rms_norm_eps));
    const at::Tensor part =
        at::cross_entropy_loss(logits.to(at::kFloat), targets.narrow(0, first, taken), {}, at::Reduction::Sum) / count;
    sum += part.item<double>();
    if (gradient == nullptr) continue;
    part.backward();
    gradients.narrow(0, first, taken).copy_(x.grad());
  }
  if (gradient != nullptr) gradient->narrow(1, 0, predicted).copy_(gradients.view({-1, predicted, hidden.size(2)}));
  return sum;
}

double ScaleTuning::gradients(const SequenceShards::Batch& batch) {
  const double count = static_cast<double>(batch.size) * static_cast<double>(tokens_.size(1) - 1);
  double sum_of_parts = 0;
  for (const at::Tensor& rows : parts_of_batch(batch.rows, tokens_.size(1), options_.device())) {
    const at::Tensor tokens = tokens_.index_select(0, rows);
    std::vector<at::Tensor> inputs;
    const at::Tensor hidden = forward(tokens, &inputs);
    at::Tensor gradient;
    sum_of_parts += loss(hidden, tokens, count, &gradient);
    for (std::int64_t index = spec_.block_count; index-- > 0; inputs.pop_back()) {
      gradient = backward(index, inputs.back(), gradient);
    }
  }
  for (const Parameter& parameter : parameters_) sum_gradient(run_.processes, parameter.value);
  return sum(run_.processes, sum_of_parts);
}

double ScaleTuning::judge() {
  const double count = static_cast<double>(run_.shards.judging_count()) * static_cast<double>(tokens_.size(1) - 1);
  double sum_of_parts = 0;
  for (const at::Tensor& rows : parts_of_batch(run_.shards.judging_rows(), tokens_.size(1), options_.device())) {
    const at::Tensor tokens = tokens_.index_select(0, rows);
    sum_of_parts += loss(forward(tokens, nullptr), tokens, count, nullptr);
  }
  return sum(run_.processes, sum_of_parts);
}

void ScaleTuning::restore() {
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < parameters_.size(); ++i) parameters_[i].value.copy_(start_scales(i));
}

Tuning tune_end_to_end(std::vector<QuantizedBlock>& blocks, const EndToEndModel& model, const at::Tensor& tokens,
                       const TuningRun& run, const at::TensorOptions& options) {
  ScaleTuning scales(blocks, model, tokens, run, options);
  const TuningPlan plan{"end to end", "e2e", model.context->spec().block_count, run.recipe.finetune.e2e_epochs,
                        "finetune.e2e_rate"};
  Tuning tuning = tune(scales, plan, run);
  for (std::size_t i = 0; i < scales.parameters().size(); ++i) {
    at::Tensor scale = scales.parameters()[i].value.detach();
    broadcast(run.processes, scale);
    const auto [block, id] = scales.layers()[i];
    const QuantizerFormat format = block_formats(run.recipe, static_cast<std::int64_t>(block)).weight[id];
    blocks[block].linears[id].scales = to_floats(held_scales({scale, {}}, format).scale);
  }
  return tuning;
}

}  // namespace pq::quant
