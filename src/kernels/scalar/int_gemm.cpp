#include <cmath>

#include "kernels/scalar/gate.h"
#include "kernels/scalar/scalar.h"
#include "kernels/scalar/stored_code.h"

namespace pq::kernels::scalar {
namespace {

/// What a column's activation is multiplied with: the stored code, or what one of two-level weights is unpacked to.
std::int32_t unpacked_code(const IntWeights& weights, std::int64_t panel, std::int64_t column, std::int64_t lane) {
  const std::int32_t code = stored_code(weights.codes + panel * weights.panel_bytes, weights.bits, column, lane);
  if (weights.group_scales == nullptr) return code;
  const std::uint8_t* groups = weights.group_scales + panel * weights.group_bytes;
  const std::int32_t packed = groups[column / weights.group * panel_channels + lane];
  return (code - packed / 16) * (packed % 16 + 1) + 128;
}

float product(const IntWeights& weights, const IntActivations& activations, std::int64_t row, std::int64_t channel) {
  const std::int64_t panel = channel / panel_channels;
  const std::int64_t lane = channel % panel_channels;
  const std::int8_t* of_row = activations.codes + row * activations.row_stride;
  float value = weights.bias != nullptr ? weights.bias[channel] : 0.0F;
  for (std::int64_t segment = 0; segment < weights.segments; ++segment) {
    const std::int64_t first = segment * weights.segment;
    const std::int64_t last = first + weights.segment < weights.columns ? first + weights.segment : weights.columns;
    std::uint32_t acc = 0;  // two's complement, as vectors do it
    for (std::int64_t column = first; column < last; ++column) {
      std::int32_t code = of_row[column];
      if (activations.planes == 2) code += 256 * of_row[activations.plane_stride + column];
      acc += static_cast<std::uint32_t>(code * unpacked_code(weights, panel, column, lane));
    }
    const std::int64_t of_weights = (panel * weights.segments + segment) * panel_channels + lane;
    const std::int64_t of_activations = row * weights.segments + segment;
    const std::int32_t zero = weights.zero != nullptr ? weights.zero[of_weights] : weights.common_zero;
    acc -= static_cast<std::uint32_t>(zero) * static_cast<std::uint32_t>(activations.sum[of_activations]);
    if (activations.zero != nullptr) {
      acc -= static_cast<std::uint32_t>(weights.sum[of_weights]) *
             static_cast<std::uint32_t>(activations.zero[of_activations]);
    }
    const float scale = weights.scale[of_weights] * activations.scale[of_activations];
    value = std::fma(static_cast<float>(static_cast<std::int32_t>(acc)), scale, value);
  }
  return value;
}

}  // namespace

void int_gemm(const IntGemm& gemm, std::int64_t first_panel, std::int64_t last_panel, void*) noexcept {
  const std::int64_t first = first_panel * panel_channels;
  const std::int64_t last =
      last_panel * panel_channels < gemm.weights.channels ? last_panel * panel_channels : gemm.weights.channels;
  for (std::int64_t row = 0; row < gemm.activations.rows; ++row) {
    for (std::int64_t channel = first; channel < last; ++channel) {
      float value = product(gemm.weights, gemm.activations, row, channel);
      if (gemm.up != nullptr) {
        value = gated(gemm.gate, value) * product(*gemm.up, gemm.activations, row, channel);
      }
      float& out = gemm.out[row * gemm.out_stride + channel];
      out = gemm.store == Store::add ? out + value : value;
    }
  }
}

}  // namespace pq::kernels::scalar
