#include "tuning/tunable_block.h"

#include <algorithm>
#include <utility>

#include "quant/two_level.h"
#include "tuning/fake_quantize.h"

namespace pq::quant {

TunableBlock::TunableBlock(const BlockStart& start, const Recipe& recipe, std::int64_t index, at::ScalarType compute,
                           const at::TensorOptions& options)
    : recipe_(recipe), formats_(block_formats(recipe, index)), compute_(compute) {
  const auto floats = options.dtype(at::kFloat);
  const auto frozen = [&](const at::Tensor& x) { return x.defined() ? x.to(floats.dtype(compute)) : x; };
  float_frozen_.norms = start.block.norms;
  for (const NormId id : norm_ids) frozen_.norms[id] = frozen(start.block.norms[id]);
  float_frozen_.key_frame = start.block.key_frame;
  frozen_.key_frame = start.block.key_frame;
  frozen_.key_frame.mean = frozen(start.block.key_frame.mean);
  for (const LinearId id : all_linears) {
    const nn::Linear& linear = start.block[id];
    const ScaleTensors& scales = start.weight_scales[id];
    const std::string name(tensor_names::linear_in_block(id));
    frozen_[id].bias = frozen(linear.bias);
    float_frozen_[id].bias = linear.bias;
    weights_[id].weight = add_parameter(name + ".weight", ParameterKind::weight, linear.weight.to(floats),
                                        scales.scale.defined() ? scale_unit(scales.scale) : reference_scale);
    const QuantizerFormat& format = formats_.weight[id];
    if (!format.enabled()) continue;
    const at::Tensor& tuned = format.two_level ? scales.channel : scales.scale;
    if (format.two_level) weights_[id].group_scale = whole_group_scales(scales).to(floats);
    weights_[id].scale =
        add_parameter(name + ".scales", ParameterKind::weight_scale, tuned.to(floats).flatten(), scale_unit(tuned));
    if (scales.zero_point.defined()) {
      weights_[id].zero_point = add_parameter(name + ".zero_points", ParameterKind::weight_zero_point,
                                              scales.zero_point.to(floats).flatten(), 1);
    }
  }
  const auto leaf = [this](std::string name, ParameterKind kind, const at::Tensor& start_value) {
    return add_parameter(std::move(name), kind, start_value,
                         kind == ParameterKind::site_scale ? scale_unit(start_value) : 1);
  };
  sites_ = std::make_unique<TunableSites>(start.sites, formats_.site, floats, leaf);
}

at::Tensor TunableBlock::add_parameter(std::string name, ParameterKind kind, const at::Tensor& start, double unit) {
  const FinetuneSettings& settings = recipe_.finetune;
  const double rate = kind == ParameterKind::weight ? settings.weight_rate : settings.quantizer_rate;
  parameters_.push_back(make_parameter(std::move(name), kind, start, learning_rate(settings, rate, unit)));
  return parameters_.back().value;
}

ScaleTensors TunableBlock::TunableWeight::group_scales() const {
  if (!group_scale.defined()) return {scale, zero_point};
  return {(scale.unsqueeze(1) * group_scale).flatten(), allowed_zero_points(zero_point, group_scale.flatten())};
}

at::Tensor TunableBlock::fake_quantize_weight(LinearId id) const {
  const TunableWeight& parameters = weights_[id];
  const QuantizerFormat& format = formats_.weight[id];
  if (!format.enabled()) return parameters.weight.to(compute_);
  const at::Tensor grouped = split_groups(parameters.weight, format);  // [out, groups, group]
  const SliceLayout layout{1, grouped.size(0) * grouped.size(1), grouped.size(2)};
  const ScaleTensors scales = held_scales(parameters.group_scales(), format);
  return join_groups(fake_quantize_tunable(grouped, layout, scales.scale, scales.zero_point, format, compute_),
                     parameters.weight.size(1));
}

QuantizedWeights TunableBlock::quantized_weights() const {
  QuantizedWeights result;
  result.block = frozen_;
  for (const LinearId id : all_linears) result.set(id, fake_quantize_weight(id));
  return result;
}

std::vector<at::Tensor> TunableBlock::site_parameters() const {
  std::vector<at::Tensor> result;
  for (const Parameter& parameter : parameters_) {
    if (is_of_site(parameter.kind)) result.push_back(parameter.value);
  }
  return result;
}

void TunableBlock::copy_values(const TunableBlock& other) {
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < parameters_.size(); ++i) parameters_[i].value.copy_(other.parameters_[i].value);
}

BlockStart TunableBlock::tuned() const {
  const at::NoGradGuard no_grad;
  BlockStart result;
  result.block = float_frozen_;
  for (const LinearId id : all_linears) {
    const TunableWeight& tuned = weights_[id];
    result.block[id].weight = tuned.weight.detach();
    if (!tuned.scale.defined()) continue;
    const std::int64_t rows = tuned.weight.size(0);
    ScaleTensors& scales = result.weight_scales[id];
    const ScaleTensors held = held_scales(tuned.group_scales(), formats_.weight[id]);
    scales.scale = held.scale.detach().view({rows, -1});
    if (held.zero_point.defined()) scales.zero_point = held.zero_point.detach().round().view({rows, -1});
    if (formats_.weight[id].two_level) scales.channel = tuned.scale.detach().view({rows, 1});
  }
  result.sites = sites_->values();
  return result;
}

}  // namespace pq::quant
