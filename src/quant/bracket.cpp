#include "quant/bracket.h"

#include <algorithm>
#include <cmath>

namespace pq::quant {
namespace {

constexpr std::int64_t first_rows = 256;
constexpr double standard_errors = 2;

}  // namespace

const std::vector<double>& RowContest::errors(std::int64_t candidate, std::int64_t count) {
  std::vector<double>& known = errors_[candidate];
  const auto begin = static_cast<std::int64_t>(known.size());
  if (begin < count) {
    const std::vector<double> more = evaluate_(candidate, begin, count - begin);
    known.insert(known.end(), more.begin(), more.end());
    evaluated_ += count - begin;
  }
  return known;
}

bool RowContest::less(std::int64_t a, std::int64_t b) {
  for (std::int64_t count = std::min(first_rows, rows_);; count = std::min(2 * count, rows_)) {
    const std::vector<double>& of_a = errors(a, count);
    const std::vector<double>& of_b = errors(b, count);
    double sum = 0;
    double squares = 0;
    for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
      const double difference = of_a[i] - of_b[i];
      sum += difference;
      squares += difference * difference;
    }
    const auto n = static_cast<double>(count);
    const double variance = std::max(0.0, squares / n - (sum / n) * (sum / n));
    if (count == rows_ || std::abs(sum / n) > standard_errors * std::sqrt(variance / n)) return sum < 0;
  }
}

std::int64_t bracketed_minimum(std::int64_t start, std::int64_t low, std::int64_t high, std::int64_t first_stride,
                               std::int64_t last_stride, const std::function<bool(std::int64_t, std::int64_t)>& less) {
  std::int64_t best = std::clamp(start, low, high);
  for (std::int64_t stride = first_stride; stride >= last_stride; stride /= 2) {
    for (const std::int64_t step : {stride, -stride}) {
      bool moved = false;
      while (best + step >= low && best + step <= high && less(best + step, best)) {
        best += step;
        moved = true;
      }
      if (moved) break;
    }
  }
  return best;
}

}  // namespace pq::quant
