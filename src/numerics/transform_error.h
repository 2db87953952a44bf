#pragma once

#include <vector>

#include "numerics/site_transform.h"

namespace pq {

/// What is known of the float32 values of a row [size].
struct RowBound {
  std::vector<double> magnitude;  ///< at most so large
  std::vector<double> error;      ///< at most so far from the exact value
};

/// The same of what float32 arithmetic makes of the row under a transform, whatever the order of its additions.
/// check_transform has passed.
RowBound transformed_bound(const SiteTransform& transform, RowBound row);

}  // namespace pq
