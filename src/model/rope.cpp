#include "model/rope.h"

#include <cmath>

#include "base/error.h"

namespace pq {

std::vector<double> rope_frequencies(const RopeSpec& rope, std::int64_t width) {
  if (std::holds_alternative<ScaledRope>(rope)) {
    throw UnsupportedError("rotary embedding", "scaled frequencies are not supported", "choose a model without them");
  }
  std::vector<double> frequencies(static_cast<std::size_t>(width / 2), 0.0);
  if (const auto* plain = std::get_if<PlainRope>(&rope)) {
    for (std::size_t i = 0; i < frequencies.size(); ++i) {
      frequencies[i] = std::pow(plain->theta, -static_cast<double>(2 * i) / static_cast<double>(width));
    }
  }
  return frequencies;
}

}  // namespace pq
