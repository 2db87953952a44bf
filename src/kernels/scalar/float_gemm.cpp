#include <cmath>

#include "base/half.h"
#include "kernels/scalar/gate.h"
#include "kernels/scalar/scalar.h"

namespace pq::kernels::scalar {
namespace {

float weight_at(const FloatWeights& weights, std::int64_t channel, std::int64_t column) {
  const std::int64_t lane = channel % panel_channels;
  const std::int64_t first = channel / panel_channels * weights.columns * panel_channels;
  const std::int64_t plain = first + column * panel_channels + lane;
  switch (weights.format) {
    case FloatFormat::f32:
      return static_cast<const float*>(weights.values)[plain];
    case FloatFormat::f16:
      return pq::f16_to_float(static_cast<const std::uint16_t*>(weights.values)[plain]);
    case FloatFormat::bf16:
      break;
  }
  const std::int64_t paired = first + column / 2 * 2 * panel_channels + lane * 2 + column % 2;
  return pq::bf16_to_float(static_cast<const std::uint16_t*>(weights.values)[paired]);
}

float product(const FloatWeights& weights, const float* row, std::int64_t channel) {
  float value = weights.bias != nullptr ? weights.bias[channel] : 0.0F;
  for (std::int64_t column = 0; column < weights.columns; ++column) {
    value = std::fma(weight_at(weights, channel, column), row[column], value);
  }
  return value;
}

}  // namespace

void float_gemm(const FloatGemm& gemm, std::int64_t first_panel, std::int64_t last_panel, void*) noexcept {
  const std::int64_t first = first_panel * panel_channels;
  const std::int64_t last =
      last_panel * panel_channels < gemm.weights.channels ? last_panel * panel_channels : gemm.weights.channels;
  for (std::int64_t row = 0; row < gemm.rows; ++row) {
    const float* x = gemm.activations + row * gemm.row_stride;
    for (std::int64_t channel = first; channel < last; ++channel) {
      float value = product(gemm.weights, x, channel);
      if (gemm.up != nullptr) value = gated(gemm.gate, value) * product(*gemm.up, x, channel);
      float& out = gemm.out[row * gemm.out_stride + channel];
      out = gemm.store == Store::add ? out + value : value;
    }
  }
}

}  // namespace pq::kernels::scalar
