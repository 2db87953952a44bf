#pragma once

#include <array>

#include "model/recipe.h"
#include "numerics/quantize.h"

namespace pq::runtime {

/// Scale and zero point of a slice [values] as numerics has them, from its smallest and largest value. `clip`: the clip
/// factors of SiteQuantizer.
AffineParams dynamic_params(const QuantizerFormat& format, const std::array<float, 2>& clip, float min, float max);

}  // namespace pq::runtime
