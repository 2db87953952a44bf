#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

namespace pq {

/// The outlier tokens of one sequence, from its token-wise maxima M_i = max_c |X_ic| (paper, section 4.1).
struct SequenceOutliers {
  double median = 0;             ///< of M; of an even number the mean of the two middle values
  std::int64_t upper = 0;        ///< M_i > upper_threshold * median(M)
  std::int64_t lower = 0;        ///< M_i < median(M) / lower_threshold
  double max_ratio = 0;          ///< largest M_i / median(M)
  double max_inverse_ratio = 0;  ///< largest median(M) / M_i
};

/// `maxima` [tokens], not empty. `on_upper(token)` is called for every upper outlier, in order.
SequenceOutliers find_outlier_tokens(std::span<const float> maxima, double upper_threshold, double lower_threshold,
                                     const std::function<void(std::size_t)>& on_upper = {});

/// The middle value of `values`, which are not empty; the mean of the two middle ones of an even number.
double median(std::span<const float> values);

}  // namespace pq
