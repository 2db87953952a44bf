#include "tuning/quantized_weights.h"

#include <utility>

namespace pq::quant {

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
