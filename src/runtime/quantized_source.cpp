#include "runtime/quantized_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "base/index.h"
#include "numerics/packing.h"

namespace pq::runtime {
namespace {

constexpr std::string_view again = "quantize the model again";

}  // namespace

void QuantizedSource::check() const {
  const std::int64_t in_groups = shape.out_features * groups();
  const auto expect = [&](std::size_t found, std::int64_t expected, std::string_view what) {
    if (found == index(expected)) return;
    throw FormatError(where, fmt::format("has {} {}, its shape asks for {}", found, what, expected), again);
  };
  expect(codes.size(), shape.out_features * packed_row_bytes(shape.in_features, format.bits), "bytes of codes");
  expect(scales.size(), format.two_level ? shape.out_features : in_groups, "scales");
  if (!format.symmetric) expect(zero_points.size(), in_groups, "zero points");
  if (!bias.empty()) expect(bias.size(), shape.out_features, "biases");
  if (!format.two_level) return;
  expect(group_scales.size(), in_groups, "group scales");
  for (std::size_t i = 0; i < group_scales.size(); ++i) {
    if (!two_level::fits(group_scales[i], zero_points[i])) {
      throw FormatError(where,
                        fmt::format("has a group scale of {} with a zero point of {}", group_scales[i], zero_points[i]),
                        again);
    }
  }
}

bool sums_fit(const QuantizedSource& source, const SegmentPlan& plan) {
  const std::int32_t high = (1 << source.format.bits) - 1;
  std::int64_t far = source.format.two_level ? 128 : 1 << (source.format.bits - 1);
  if (!source.format.two_level) {
    for (const std::int16_t zero : source.zero_points)
      far = std::max<std::int64_t>({far, std::abs(zero), std::abs(high - zero)});
  }
  return plan.segment * far * plan.code_bound < std::int64_t{1} << 31;
}

}  // namespace pq::runtime
