#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace pq::eval {

/// Why a logit is not finite, and what to do: files are sound, for what they hold is finite or they are not opened.
inline constexpr std::string_view overflow_remedy =
    "weights or scales so large that float32 overflows on the way: pq verify shows the stage";

/// What the log-softmax of one row of logits needs. Logits are read as float32; exponentials and sums of 16 of them are
/// float32, everything beyond is float64: the log-likelihood of a token is right to 2e-6.
struct LogitStats {
  float max = 0;
  double log_sum = 0;  ///< log of the sum of exp(logit - max); meaningless unless `finite`
  bool finite = false;
};

/// One pass for the maximum, one for the sum. `logits` is not empty.
LogitStats logit_stats(std::span<const float> logits);

/// -log of the probability of token `target`, in nats. `target` is below logits.size().
inline double negative_log_likelihood(std::span<const float> logits, const LogitStats& stats, std::int32_t target) {
  return static_cast<double>(stats.max) - static_cast<double>(logits[static_cast<std::size_t>(target)]) + stats.log_sum;
}

/// KL(reference || model) in nats of two rows of equal length with their stats, right to 2e-6 (1 + the mean difference
/// of the log-probabilities). Exactly 0 for equal rows; rounding can make it slightly negative for nearly equal ones.
double kl_divergence(std::span<const float> reference, const LogitStats& reference_stats, std::span<const float> model,
                     const LogitStats& model_stats);

/// The lowest index of a logit equal to `max`, which is one of them.
std::int64_t first_index_of(std::span<const float> logits, float max);

/// The same in float64 throughout, in plain loops: for a reference that computes in it, where differences of 1e-9
/// count, and what the fast ones are tested against. Rows are not empty.
std::vector<double> log_softmax(std::span<const double> logits);
/// KL(reference || model) in nats of two rows of log-probabilities.
double kl_divergence(std::span<const double> reference, std::span<const double> model);
/// The lowest index of the largest value.
std::int64_t first_largest(std::span<const double> logits);

/// x <- exp(x) for x <= 0, to a relative error of 1e-7; below -87 it stays at exp(-87) = 1.6e-38.
void exp_of_nonpositive(std::span<float> x);

}  // namespace pq::eval
