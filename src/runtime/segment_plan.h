#pragma once

#include <cstdint>
#include <span>

#include "model/recipe.h"

namespace pq::runtime {

/// How the activations that layers of one site read are cut into segments with a scale of their own.
struct SegmentPlan {
  bool integer = false;      ///< false: these formats do not fit the integer kernels, compute in float32
  int planes = 1;            ///< 2: 16-bit activations (weight-only layers)
  std::int64_t columns = 0;  ///< in_features
  std::int64_t padded = 0;   ///< a multiple of kernels::column_block
  std::int64_t segment = 0;
  std::int64_t segments = 0;
  std::int64_t code_bound = 0;  ///< largest |code - zero point| of an activation
};

/// The plan for layers of `weight` format over `columns` inputs quantized as `activation`. `static_zero` is the site's
/// zero point where it has one. Throws InputError for formats that are not allowed.
SegmentPlan plan_segments(const QuantizerFormat& weight, const QuantizerFormat& activation, std::int64_t columns,
                          std::int32_t static_zero);
/// What layers that read the same codes go by together: `integer` where some plan is, cut so finely that every integer
/// one's scales, and the groups of two-level weights, lie in whole segments or hold whole ones. `weights` and `plans`
/// are those of the same layers, over the same activations.
SegmentPlan common_plan(std::span<const QuantizerFormat> weights, std::span<const SegmentPlan> plans);
/// The segment plan of an 8-bit lm_head.
SegmentPlan plan_8_bit_rows(std::int64_t columns);

}  // namespace pq::runtime
