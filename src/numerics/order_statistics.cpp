#include "numerics/order_statistics.h"

#include <algorithm>
#include <functional>
#include <vector>

#include "base/error.h"
#include "numerics/outlier_tokens.h"

namespace pq {

OrderStatistics order_statistics(std::span<const float> values) {
  OrderStatistics found;
  if (values.size() < found.top.size()) throw InputError("order statistics", "need three values at least");
  std::partial_sort_copy(values.begin(), values.end(), found.top.begin(), found.top.end(), std::greater<>());
  std::partial_sort_copy(values.begin(), values.end(), found.least.begin(), found.least.end());
  found.median = median(values);
  return found;
}

}  // namespace pq
