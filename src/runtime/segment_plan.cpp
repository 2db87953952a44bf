#include "runtime/segment_plan.h"

#include <algorithm>
#include <cstdlib>
#include <numeric>

#include "kernels/kernels.h"
#include "numerics/quantize.h"
#include "runtime/aligned_buffer.h"

namespace pq::runtime {
namespace {

using kernels::column_block;

// Weight-only layers: one scale for so many 16-bit activations keeps their 32-bit sums below 2^31 for 8-bit weights.
constexpr std::int64_t wide_segment = 128;

/// The largest multiple of column_block that divides `group` and is at most `limit`; 0 when there is none.
std::int64_t largest_segment(std::int64_t group, std::int64_t limit) {
  for (std::int64_t segment = std::min(limit, group) / column_block * column_block; segment > 0;
       segment -= column_block) {
    if (group % segment == 0) return segment;
  }
  return 0;
}

/// Whether segments and the groups of two-level weights lie in each other.
bool holds_groups(const SegmentPlan& plan, const QuantizerFormat& weight) {
  return plan.segment % weight.group == 0 || weight.group % plan.segment == 0 || plan.segment == plan.padded;
}

}  // namespace

SegmentPlan plan_segments(const QuantizerFormat& weight, const QuantizerFormat& activation, std::int64_t columns,
                          std::int32_t static_zero) {
  SegmentPlan plan;
  plan.columns = columns;
  plan.padded = round_up(columns, column_block);
  if (!weight.enabled()) return plan;
  std::int64_t weight_group =
      weight.granularity == Granularity::group && weight.group < columns ? weight.group : plan.padded;
  // Two-level weights share one float scale a row: only the activations cut it.
  if (weight.two_level) weight_group = plan.padded;
  std::int64_t segment = weight_group;
  if (!activation.enabled()) {
    plan.planes = 2;
    plan.code_bound = kernels::wide_code_max;
    segment =
        weight_group == plan.padded ? std::min(plan.padded, wide_segment) : largest_segment(weight_group, wide_segment);
  } else {
    const QuantRange range = quant_range(activation.bits, activation.symmetric);
    const std::int32_t far = std::max(std::abs(range.low - static_zero), std::abs(range.high - static_zero));
    plan.code_bound = far;
    const bool grouped = activation.granularity == Granularity::group && activation.group < columns;
    const std::int64_t activation_group = grouped ? activation.group : plan.padded;
    const std::int64_t smaller = std::min(weight_group, activation_group);
    const std::int64_t larger = std::max(weight_group, activation_group);
    segment = larger == plan.padded || larger % smaller == 0 ? smaller : 0;
    if (!activation.symmetric && !activation.is_static()) {
      // A zero point that is only known while the model runs may be anything that fits in 16 bits.
      plan.code_bound = 32768 + range.high;
      if (!grouped) segment = largest_segment(segment == plan.padded ? wide_segment : segment, wide_segment);
    }
  }
  segment = std::min(segment, plan.padded);
  if (segment == 0 || segment % column_block != 0) return plan;
  plan.segment = segment;
  if (weight.two_level && !holds_groups(plan, weight)) return plan;
  plan.integer = true;
  plan.segments = (plan.padded + segment - 1) / segment;
  return plan;
}

SegmentPlan common_plan(std::span<const QuantizerFormat> weights, std::span<const SegmentPlan> plans) {
  SegmentPlan common = plans.front();
  const auto cut = [&](std::int64_t segment) {
    const bool whole_row = segment == common.padded;
    if (!whole_row) common.segment = common.segment == common.padded ? segment : std::gcd(common.segment, segment);
  };
  common.integer = false;
  common.segment = common.padded;
  for (const SegmentPlan& plan : plans) {
    if (!plan.integer) continue;
    common.integer = true;
    common.planes = plan.planes;
    common.code_bound = plan.code_bound;
    cut(plan.segment);
  }
  if (!common.integer) return plans.front();
  for (std::size_t i = 0; i < plans.size(); ++i) {
    if (plans[i].integer && weights[i].two_level && !holds_groups(common, weights[i])) cut(weights[i].group);
  }
  common.segments = (common.padded + common.segment - 1) / common.segment;
  return common;
}

SegmentPlan plan_8_bit_rows(std::int64_t columns) {
  QuantizerFormat weight;
  weight.bits = 8;
  weight.granularity = Granularity::channel;
  return plan_segments(weight, QuantizerFormat{}, columns, 0);
}

}  // namespace pq::runtime
