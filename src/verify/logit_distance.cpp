#include "verify/logit_distance.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/index.h"

namespace pq::runtime {
namespace {

/// log of the softmax of a row of logits.
template <typename T>
std::vector<double> log_probabilities(std::span<const T> logits) {
  const auto largest = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  double total = 0;
  for (const T logit : logits) total += std::exp(static_cast<double>(logit) - largest);
  std::vector<double> logs;
  logs.reserve(logits.size());
  for (const T logit : logits) logs.push_back(static_cast<double>(logit) - largest - std::log(total));
  return logs;
}

double kl_divergence(const std::vector<double>& expected, const std::vector<double>& actual) {
  double sum = 0;
  for (std::size_t v = 0; v < expected.size(); ++v) sum += std::exp(expected[v]) * (expected[v] - actual[v]);
  return sum;
}

}  // namespace

void compare_logits(const Matrix& reference, const Matrix& control, std::span<const float> logits,
                    VerifyReport& report) {
  const std::size_t vocab = index(reference.columns);
  double squares = 0;
  double reference_squares = 0;
  for (std::int64_t i = 0; i < reference.rows; ++i) {
    const std::span<const double> expected = reference.row(i);
    const std::span<const float> actual = logits.subspan(index(i) * vocab, vocab);
    const auto best = std::max_element(expected.begin(), expected.end());
    const auto actual_best = std::max_element(actual.begin(), actual.end());
    report.top1_agreement += best - expected.begin() == actual_best - actual.begin() ? 1 : 0;
    for (std::size_t v = 0; v < vocab; ++v) {
      const double error = std::fabs(static_cast<double>(actual[v]) - expected[v]);
      report.logit_max_error = std::max(report.logit_max_error, error);
      squares += error * error;
      reference_squares += expected[v] * expected[v];
    }
    const std::vector<double> logs = log_probabilities(expected);
    report.kl_divergence += kl_divergence(logs, log_probabilities(actual));
    report.control_kl_divergence += kl_divergence(logs, log_probabilities(control.row(i)));
  }
  const auto rows = static_cast<double>(reference.rows);
  report.logit_rms_error = std::sqrt(squares / rows / static_cast<double>(vocab));
  report.logit_rms = std::sqrt(reference_squares / rows / static_cast<double>(vocab));
  report.kl_divergence /= rows;
  report.control_kl_divergence /= rows;
  report.top1_agreement /= rows;
}

}  // namespace pq::runtime
