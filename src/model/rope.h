#pragma once

#include <cstdint>
#include <variant>
#include <vector>

namespace pq {

// The rotary embedding of a block's Q and K, as `transformers` (modeling_rope_utils.py) computes it: the first `width`
// channels of a head are pairs (i, i + width / 2), and pair i turns by frequency i times the position. Plain
// frequencies are theta^(-2i / width); the other kinds stretch them to a longer context than the one that the model
// was trained on first.

/// No rotary embedding (a "NoPE" block).
struct NoRope {
  bool operator==(const NoRope&) const = default;
};
struct PlainRope {
  double theta = 10000;
  bool operator==(const PlainRope&) const = default;
};
/// All frequencies divided by `factor`.
struct LinearRope {
  double theta = 10000;
  double factor = 1;
  bool operator==(const LinearRope&) const = default;
};
/// Llama 3's: short wavelengths stay, long ones are divided by `factor`, those between are blended.
struct ScaledRope {
  double theta = 10000;
  double factor = 1;
  double low_frequency_factor = 1;
  double high_frequency_factor = 4;
  std::int64_t original_positions = 8192;
  bool operator==(const ScaledRope&) const = default;
};
/// YaRN: a ramp over the channels between plain frequencies and those divided by `factor`.
struct YarnRope {
  double theta = 10000;
  double factor = 1;
  double beta_fast = 32;
  double beta_slow = 1;
  std::int64_t original_positions = 4096;
  bool truncate = true;  ///< the ramp begins and ends at whole channels
  double amplitude = 1;  ///< cos and sin are multiplied by it
  bool operator==(const YarnRope&) const = default;
};
/// LongRoPE: each frequency divided by a factor of its own.
struct LongRope {
  double theta = 10000;
  std::vector<double> factors;  ///< [width / 2]
  double amplitude = 1;         ///< cos and sin are multiplied by it
  bool operator==(const LongRope&) const = default;
};
using RopeSpec = std::variant<NoRope, PlainRope, LinearRope, ScaledRope, YarnRope, LongRope>;

/// Radians a position by which each pair of channels turns, [width / 2]; none without a rotary embedding. Throws
/// InputError for a LongRope whose factors are not width / 2.
std::vector<double> rope_frequencies(const RopeSpec& rope, std::int64_t width);
/// What cos and sin are multiplied by: 1 but for YaRN and LongRoPE.
double rope_amplitude(const RopeSpec& rope);

}  // namespace pq
