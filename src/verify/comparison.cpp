#include "verify/comparison.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace pq::runtime {

VerifyRow& Comparison::row(const std::string& tensor) {
  const auto found =
      std::find_if(rows_.begin(), rows_.end(), [&](const VerifyRow& existing) { return existing.tensor == tensor; });
  if (found != rows_.end()) return *found;
  rows_.push_back({});
  rows_.back().tensor = tensor;
  return rows_.back();
}

void Comparison::add_values(const std::string& tensor, std::int64_t block, const Matrix& actual, const Matrix& expected,
                            const Matrix& bound) {
  VerifyRow& of = row(tensor);
  bool finite = true;
  for (std::size_t i = 0; i < actual.values.size(); ++i) {
    finite = finite && std::isfinite(actual.values[i]);
    largest_ = std::max(largest_, std::fabs(expected.values[i]));
    const double error = std::fabs(actual.values[i] - expected.values[i]);
    // A result that is no number is outside every bound, and so is an error where there can be none.
    double share = error / std::max(bound.values[i], 1e-37);
    if (std::isnan(share)) share = HUGE_VAL;
    of.max_error = std::max(of.max_error, error);
    if (share > of.share) {
      of.share = share;
      of.worst_block = block;
    }
  }
  of.values += static_cast<std::int64_t>(actual.values.size());
  constexpr double squared_is_too_large = 1e18;
  if (!finite && all_finite_ && largest_ > squared_is_too_large) overflow_ = fmt::format("{}, block {}", tensor, block);
  all_finite_ = all_finite_ && finite;
}

void Comparison::add_codes(const std::string& tensor, std::int64_t block, std::int64_t codes, std::int64_t differing) {
  VerifyRow& of = row(tensor);
  of.codes += codes;
  of.differing += differing;
  if (differing > 0) of.worst_block = block;
}

}  // namespace pq::runtime
