#include "verify/logit_distance.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/index.h"
#include "eval/softmax.h"

namespace pq::runtime {
LogitDistance compare_logits(const Matrix& reference, const Matrix& control, std::span<const float> logits) {
  LogitDistance distance;
  const std::size_t vocab = index(reference.columns);
  double squares = 0;
  double reference_squares = 0;
  for (std::int64_t i = 0; i < reference.rows; ++i) {
    const std::span<const double> expected = reference.row(i);
    const std::span<const float> floats = logits.subspan(index(i) * vocab, vocab);
    const std::vector<double> actual(floats.begin(), floats.end());
    distance.top1_agreement += eval::first_largest(expected) == eval::first_largest(actual) ? 1 : 0;
    for (std::size_t v = 0; v < vocab; ++v) {
      const double error = std::fabs(actual[v] - expected[v]);
      distance.max_error = std::max(distance.max_error, error);
      squares += error * error;
      reference_squares += expected[v] * expected[v];
    }
    const std::vector<double> logs = eval::log_softmax(expected);
    distance.kl_divergence += eval::kl_divergence(logs, eval::log_softmax(actual));
    distance.control_kl_divergence += eval::kl_divergence(logs, eval::log_softmax(control.row(i)));
  }
  const auto rows = static_cast<double>(reference.rows);
  distance.rms_error = std::sqrt(squares / rows / static_cast<double>(vocab));
  distance.rms = std::sqrt(reference_squares / rows / static_cast<double>(vocab));
  distance.kl_divergence /= rows;
  distance.control_kl_divergence /= rows;
  distance.top1_agreement /= rows;
  return distance;
}

}  // namespace pq::runtime
