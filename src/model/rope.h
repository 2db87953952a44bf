#pragma once

#include <cstdint>
#include <variant>
#include <vector>

namespace pq {

/// The rotary embedding of a block's Q and K: none, plain, or plain with frequencies scaled to a longer context than
/// the one that the model was trained on first (Llama 3's way).
struct NoRope {
  bool operator==(const NoRope&) const = default;
};
struct PlainRope {
  double theta = 10000;
  bool operator==(const PlainRope&) const = default;
};
struct ScaledRope {
  double theta = 10000;
  double factor = 1;
  double low_frequency_factor = 1;
  double high_frequency_factor = 4;
  std::int64_t original_positions = 8192;
  bool operator==(const ScaledRope&) const = default;
};
using RopeSpec = std::variant<NoRope, PlainRope, ScaledRope>;

/// Radians a position by which each pair of channels turns, [width / 2]: theta^(-2i / width). All 0, which turns
/// nothing, without a rotary embedding. Throws UnsupportedError for a scaled one.
std::vector<double> rope_frequencies(const RopeSpec& rope, std::int64_t width);

}  // namespace pq
