#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

namespace pq::quant {

/// Decides between candidates by their mean error over rows (tokens), on as many rows as that takes: the first ones
/// until the difference of two means is twice its standard error, or all.
class RowContest {
 public:
  /// Squared errors of `candidate` on rows begin .. begin+count-1. Rows are in random order, so that the first ones are
  /// a sample.
  using Evaluate = std::function<std::vector<double>(std::int64_t candidate, std::int64_t begin, std::int64_t count)>;
  RowContest(std::int64_t rows, Evaluate evaluate) : rows_(rows), evaluate_(std::move(evaluate)) {}

  /// Whether a's mean error is below b's.
  bool less(std::int64_t a, std::int64_t b);
  /// How many rows were evaluated for how many candidates, in all.
  std::int64_t evaluated() const { return evaluated_; }

 private:
  const std::vector<double>& errors(std::int64_t candidate, std::int64_t count);

  std::int64_t rows_;
  Evaluate evaluate_;
  std::map<std::int64_t, std::vector<double>> errors_;
  std::int64_t evaluated_ = 0;
};

/// A minimum over low .. high of a function that falls, then rises: walks from `start` with strides first_stride,
/// first_stride / 2, .. down to last_stride, each as long as `less(candidate, best)` says that it goes down.
std::int64_t bracketed_minimum(std::int64_t start, std::int64_t low, std::int64_t high, std::int64_t first_stride,
                               std::int64_t last_stride, const std::function<bool(std::int64_t, std::int64_t)>& less);

}  // namespace pq::quant
