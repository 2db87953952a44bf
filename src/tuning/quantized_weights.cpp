#include "tuning/quantized_weights.h"

#include <utility>

namespace pq::quant {

ScaleTensors held_scales(const ScaleTensors& tuned, const QuantizerFormat& format) {
  if (format.scale_type == ScaleType::float32) return tuned;
  ScaleTensors held = snapped({tuned.scale.detach(), tuned.zero_point}, format);
  held.scale = held.scale + (tuned.scale - tuned.scale.detach());
  return held;
}

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

}  // namespace pq::quant
