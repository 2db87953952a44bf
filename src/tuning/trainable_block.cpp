#include "tuning/trainable_block.h"

#include <algorithm>
#include <utility>

#include "tuning/fake_quantize.h"

namespace pq::quant {
namespace {

constexpr double largest_zero_point = 32767;
// About the median scale of Llama-3-8B's 4-bit weights, for which the paper's learning rates were chosen.
constexpr double reference_scale = 0.01;

}  // namespace

double learning_rate(const FinetuneSettings& settings, double rate, double unit) {
  return settings.relative_rates ? rate * unit / reference_scale : rate;
}

double scale_unit(const at::Tensor& scale) { return scale.abs().mean().item<double>(); }

void QuantizedWeights::set(LinearId id, at::Tensor quantized) {
  at::Tensor& leaf = block[id].weight;
  leaf = quantized.detach();
  leaf.set_requires_grad(quantized.requires_grad());
  before[id] = std::move(quantized);
}

void QuantizedWeights::backward() const {
  for (const LinearId id : all_linears) {
    const at::Tensor& gradient = block[id].weight.grad();
    if (before[id].requires_grad() && gradient.defined()) before[id].backward(gradient);
  }
}

TrainableBlock::TrainableBlock(const BlockStart& start, const Recipe& recipe, at::ScalarType compute,
                               const at::TensorOptions& options)
    : recipe_(recipe), compute_(compute) {
  const auto floats = options.dtype(at::kFloat);
  const auto frozen = [&](const at::Tensor& x) { return x.defined() ? x.to(floats.dtype(compute)) : x; };
  float_frozen_.norms = start.block.norms;
  for (const NormId id : norm_ids) frozen_.norms[id] = frozen(start.block.norms[id]);
  for (const LinearId id : all_linears) {
    const nn::Linear& linear = start.block[id];
    const ScaleTensors& scales = start.weight_scales[id];
    const std::string name(tensor_names::linear_in_block(id));
    frozen_[id].bias = frozen(linear.bias);
    float_frozen_[id].bias = linear.bias;
    weights_[id].weight = add_parameter(name + ".weight", linear.weight.to(floats), Kind::weight,
                                        scales.scale.defined() ? scale_unit(scales.scale) : reference_scale);
    if (!recipe.weight.enabled()) continue;
    weights_[id].scale = add_parameter(name + ".scales", scales.scale.to(floats).flatten(), Kind::weight_quantizer,
                                       scale_unit(scales.scale));
    if (scales.zero_point.defined())
      weights_[id].zero_point =
          add_parameter(name + ".zero_points", scales.zero_point.to(floats).flatten(), Kind::weight_quantizer, 1);
  }
  sites_ =
      std::make_unique<TrainableSites>(start.sites, recipe, floats, [this](std::string name, const at::Tensor& value) {
        const double unit = name.ends_with(".scale") ? scale_unit(value) : 1;
        return add_parameter(std::move(name), value, Kind::site, unit);
      });
}

at::Tensor TrainableBlock::add_parameter(std::string name, const at::Tensor& value, Kind kind, double unit) {
  at::Tensor leaf = value.detach().clone(at::MemoryFormat::Contiguous);
  const FinetuneSettings& settings = recipe_.finetune;
  const double rate =
      learning_rate(settings, kind == Kind::weight ? settings.weight_rate : settings.quantizer_rate, unit);
  leaf.set_requires_grad(rate > 0);
  const bool positive = kind != Kind::weight && !name.ends_with(".zero_point") && !name.ends_with(".zero_points");
  floors_.push_back(positive ? leaf.detach().abs() * smallest_scale_share : at::Tensor());
  kinds_.push_back(kind);
  parameters_.push_back({std::move(name), leaf, rate});
  return leaf;
}

at::Tensor TrainableBlock::fake_quantize_weight(const TrainableWeight& parameters) const {
  if (!recipe_.weight.enabled()) return parameters.weight.to(compute_);
  const at::Tensor grouped = split_groups(parameters.weight, recipe_.weight);  // [out, groups, group]
  const SliceLayout layout{1, grouped.size(0) * grouped.size(1), grouped.size(2)};
  return join_groups(
      fake_quantize_trained(grouped, layout, parameters.scale, parameters.zero_point, recipe_.weight, compute_),
      parameters.weight.size(1));
}

QuantizedWeights TrainableBlock::quantized_weights() const {
  QuantizedWeights result;
  result.block = frozen_;
  for (const LinearId id : all_linears) result.set(id, fake_quantize_weight(weights_[id]));
  return result;
}

void TrainableBlock::keep_in_range() {
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    at::Tensor& value = parameters_[i].value;
    if (floors_[i].defined()) {
      at::maximum_out(value, value, floors_[i]);
    } else if (kinds_[i] != Kind::weight) {
      value.clamp_(-largest_zero_point, largest_zero_point);
    }
  }
}

std::vector<at::Tensor> TrainableBlock::site_parameters() const {
  std::vector<at::Tensor> result;
  for (std::size_t i = 0; i < kinds_.size(); ++i) {
    if (kinds_[i] == Kind::site) result.push_back(parameters_[i].value);
  }
  return result;
}

void TrainableBlock::copy_values(const TrainableBlock& other) {
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < parameters_.size(); ++i) parameters_[i].value.copy_(other.parameters_[i].value);
}

BlockStart TrainableBlock::trained() const {
  const at::NoGradGuard no_grad;
  BlockStart result;
  result.block = float_frozen_;
  for (const LinearId id : all_linears) {
    const TrainableWeight& trained = weights_[id];
    result.block[id].weight = trained.weight.detach();
    if (!trained.scale.defined()) continue;
    const std::int64_t rows = trained.weight.size(0);
    result.weight_scales[id].scale = trained.scale.detach().view({rows, -1});
    if (trained.zero_point.defined())
      result.weight_scales[id].zero_point = trained.zero_point.detach().round().view({rows, -1});
  }
  result.sites = sites_->values();
  return result;
}

}  // namespace pq::quant
