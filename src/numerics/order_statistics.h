#pragma once

#include <array>
#include <span>

namespace pq {

/// The largest, the middle and the smallest of some values.
struct OrderStatistics {
  std::array<float, 3> top{};    ///< largest first
  double median = 0;             ///< of an even number the mean of the two middle ones
  std::array<float, 3> least{};  ///< smallest first
};

/// Of three finite values or more. Throws InputError for fewer.
OrderStatistics order_statistics(std::span<const float> values);

}  // namespace pq
