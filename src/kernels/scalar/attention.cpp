#include <cmath>

#include "base/half.h"
#include "kernels/scalar/scalar.h"
#include "kernels/scalar/stored_code.h"

namespace pq::kernels::scalar {
namespace {

enum class Side { key, value };

/// Dimension c of body token t: what the codes stand for.
float cached(const Attention& attention, Side side, std::int64_t t, std::int64_t c) {
  const KvLayout& layout = attention.layout;
  const bool key = side == Side::key;
  const std::uint8_t* bytes = key ? attention.head.key : attention.head.value;
  if (layout.format == KvFormat::f16 || layout.format == KvFormat::f32) {
    const std::int64_t at = key ? (t / 16 * layout.head_dim + c) * 16 + t % 16 : t * layout.padded_dim + c;
    return layout.format == KvFormat::f16 ? pq::f16_to_float(reinterpret_cast<const std::uint16_t*>(bytes)[at])
                                          : reinterpret_cast<const float*>(bytes)[at];
  }
  const int bits = layout.format == KvFormat::int4 ? 4 : 8;
  const std::int64_t block = t / column_block * (layout.padded_dim / panel_channels) + c / panel_channels;
  const std::int32_t code = key ? stored_code(bytes + t / 16 * panel_bytes(layout.padded_dim, bits), bits, c, t % 16)
                                : stored_code(bytes + block * 64 * bits, bits, t % column_block, c % panel_channels);
  const std::int64_t at = layout.dynamic_scales ? t * layout.groups + c / layout.group : 0;
  const float scale = (key ? attention.head.key_scale : attention.head.value_scale)[at];
  const std::int32_t zero = (key ? attention.head.key_zero : attention.head.value_zero)[at];
  return static_cast<float>(code - zero) * scale;
}

void attend_row(const Attention& attention, std::int64_t query, std::int64_t head) {
  const KvLayout& layout = attention.layout;
  const float* q = attention.query + query * attention.query_stride + head * layout.head_dim;
  float* out = attention.out + query * attention.out_stride + head * layout.head_dim;
  const std::int64_t position = attention.first + query;
  std::int64_t oldest = attention.window > 0 ? position - attention.window + 1 : 0;
  if (oldest < 0) oldest = 0;
  const std::int64_t keys = attention.prefix + position + 1 - oldest;
  const auto at = [&](Side side, std::int64_t k, std::int64_t c) {
    if (k >= attention.prefix) return cached(attention, side, oldest + k - attention.prefix, c);
    return (side == Side::key ? attention.head.prefix_key : attention.head.prefix_value)[k * layout.padded_dim + c];
  };
  const auto score = [&](std::int64_t k) {
    double sum = 0;
    for (std::int64_t c = 0; c < layout.head_dim; ++c) {
      sum += static_cast<double>(q[c]) * static_cast<double>(at(Side::key, k, c));
    }
    return sum * static_cast<double>(attention.scale);
  };
  // Scores are computed more than once, because a kernel allocates nothing.
  double largest = -HUGE_VAL;
  for (std::int64_t k = 0; k < keys; ++k) largest = std::fmax(largest, score(k));
  constexpr std::int64_t chunk = 64;
  for (std::int64_t first = 0; first < layout.head_dim; first += chunk) {
    const std::int64_t count = layout.head_dim - first < chunk ? layout.head_dim - first : chunk;
    double sums[chunk] = {};
    double total = 0;
    for (std::int64_t k = 0; k < keys; ++k) {
      const double p = std::exp(score(k) - largest);
      total += p;
      for (std::int64_t c = 0; c < count; ++c) sums[c] += p * static_cast<double>(at(Side::value, k, first + c));
    }
    for (std::int64_t c = 0; c < count; ++c) out[first + c] = static_cast<float>(sums[c] / total);
  }
}

}  // namespace

void attend(const Attention& attention, void*) noexcept {
  for (std::int64_t query = 0; query < attention.queries; ++query) {
    for (std::int64_t head = 0; head < attention.group_heads; ++head) attend_row(attention, query, head);
  }
}

}  // namespace pq::kernels::scalar
