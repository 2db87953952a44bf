#include "model/rope.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"

namespace pq {
namespace {

double plain_frequency(double theta, std::size_t pair, std::int64_t width) {
  return std::pow(theta, -static_cast<double>(2 * pair) / static_cast<double>(width));
}

double stretched(const PlainRope& rope, std::size_t pair, std::int64_t width) {
  return plain_frequency(rope.theta, pair, width);
}

double stretched(const LinearRope& rope, std::size_t pair, std::int64_t width) {
  return plain_frequency(rope.theta, pair, width) / rope.factor;
}

double stretched(const ScaledRope& rope, std::size_t pair, std::int64_t width) {
  const double frequency = plain_frequency(rope.theta, pair, width);
  const double turns = static_cast<double>(rope.original_positions) * frequency / (2 * std::numbers::pi);
  if (turns > rope.high_frequency_factor) return frequency;
  if (turns < rope.low_frequency_factor) return frequency / rope.factor;
  const double smooth = (turns - rope.low_frequency_factor) / (rope.high_frequency_factor - rope.low_frequency_factor);
  return (1 - smooth) * frequency / rope.factor + smooth * frequency;
}

double stretched(const YarnRope& rope, std::size_t pair, std::int64_t width) {
  const auto channels = static_cast<double>(width);
  // The pair that turns `turns` times within the original context.
  const auto pair_of = [&](double turns) {
    return channels * std::log(static_cast<double>(rope.original_positions) / (turns * 2 * std::numbers::pi)) /
           (2 * std::log(rope.theta));
  };
  double low = pair_of(rope.beta_fast);
  double high = pair_of(rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, channels - 1);
  if (low == high) high += 0.001;
  const double ramp = std::clamp((static_cast<double>(pair) - low) / (high - low), 0.0, 1.0);
  const double frequency = plain_frequency(rope.theta, pair, width);
  return frequency / rope.factor * ramp + frequency * (1 - ramp);
}

double stretched(const LongRope& rope, std::size_t pair, std::int64_t width) {
  return plain_frequency(rope.theta, pair, width) / rope.factors[pair];
}

double stretched(const NoRope& /*rope*/, std::size_t /*pair*/, std::int64_t /*width*/) { return 0; }

}  // namespace

std::vector<double> rope_frequencies(const RopeSpec& rope, std::int64_t width) {
  if (std::holds_alternative<NoRope>(rope)) return {};
  std::vector<double> frequencies(static_cast<std::size_t>(width / 2));
  if (const auto* own = std::get_if<LongRope>(&rope); own != nullptr && own->factors.size() != frequencies.size()) {
    throw InputError("rotary embedding",
                     fmt::format("{} factors for {} pairs of channels", own->factors.size(), frequencies.size()));
  }
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    frequencies[i] = std::visit([&](const auto& kind) { return stretched(kind, i, width); }, rope);
  }
  return frequencies;
}

double rope_amplitude(const RopeSpec& rope) {
  if (const auto* yarn = std::get_if<YarnRope>(&rope)) return yarn->amplitude;
  if (const auto* own = std::get_if<LongRope>(&rope)) return own->amplitude;
  return 1;
}

}  // namespace pq
