#include "numerics/outlier_tokens.h"

#include <algorithm>
#include <vector>

namespace pq {

double median(std::span<const float> values) {
  std::vector<float> sorted(values.begin(), values.end());
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
  std::nth_element(sorted.begin(), middle, sorted.end());
  if (sorted.size() % 2 == 1) return *middle;
  const float below = *std::max_element(sorted.begin(), middle);
  return (static_cast<double>(below) + static_cast<double>(*middle)) / 2;
}

SequenceOutliers find_outlier_tokens(std::span<const float> maxima, double upper_threshold, double lower_threshold,
                                     const std::function<void(std::size_t)>& on_upper) {
  SequenceOutliers found{.median = median(maxima)};
  const double middle = found.median;
  for (std::size_t i = 0; i < maxima.size(); ++i) {
    const double value = maxima[i];
    if (value > upper_threshold * middle) {
      ++found.upper;
      if (on_upper) on_upper(i);
    }
    if (value < middle / lower_threshold) ++found.lower;
    if (middle > 0) found.max_ratio = std::max(found.max_ratio, value / middle);
    if (value > 0) found.max_inverse_ratio = std::max(found.max_inverse_ratio, middle / value);
  }
  return found;
}

}  // namespace pq
