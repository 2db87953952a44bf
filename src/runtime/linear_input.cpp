#include "runtime/linear_input.h"

#include <algorithm>

#include "runtime/dynamic_params.h"

namespace pq::runtime {

LinearInput make_linear_input(const QuantizerFormat& format, const SiteQuantizer& parameters, const SegmentPlan& plan) {
  LinearInput input{.format = format, .parameters = parameters, .plan = plan};
  if (!plan.integer) return input;
  kernels::QuantizeRow& spec = input.spec;
  spec.planes = plan.planes;
  spec.bits = format.enabled() ? format.bits : 8;
  spec.symmetric = !format.enabled() || format.symmetric;
  spec.scale = 1;
  spec.gamma = parameters.clip[0];
  spec.beta = parameters.clip[1];
  spec.columns = plan.columns;
  spec.padded = plan.padded;
  spec.segment = plan.segment;
  spec.segments = plan.segments;
  if (!format.enabled()) {
    spec.kind = kernels::ScaleKind::segment;
  } else if (format.is_static()) {
    spec.kind = kernels::ScaleKind::fixed;
    spec.scale = parameters.scale[0];
    spec.zero = format.symmetric ? 0 : parameters.zero_point[0];
  } else if (format.granularity == Granularity::tensor) {
    spec.kind = kernels::ScaleKind::fixed;
  } else if (format.granularity == Granularity::group && format.group < plan.columns) {
    spec.kind = format.group == plan.segment ? kernels::ScaleKind::segment : kernels::ScaleKind::row;
    if (format.group != plan.segment) input.part = format.group;
  } else {
    spec.kind = kernels::ScaleKind::row;
  }
  return input;
}

void quantize_input(const LinearInput& input, const float* row, const AffineParams& shared,
                    const kernels::QuantizedRow& out, const kernels::KernelTable& table) {
  if (input.part == 0) {
    if (!input.per_call()) {
      table.quantize_row(row, input.spec, out);
      return;
    }
    kernels::QuantizeRow spec = input.spec;
    spec.scale = shared.scale;
    spec.zero = shared.zero_point;
    table.quantize_row(row, spec, out);
    return;
  }
  for (std::int64_t first = 0; first < input.spec.columns; first += input.part) {
    kernels::QuantizeRow spec = input.spec;
    spec.columns = std::min(input.part, input.spec.columns - first);
    spec.padded = std::min(input.part, input.spec.padded - first);
    spec.segments = (spec.padded + spec.segment - 1) / spec.segment;
    const std::int64_t segment = first / spec.segment;
    table.quantize_row(
        row + first, spec,
        {out.codes + first, out.plane_stride, out.scale + segment, out.zero + segment, out.sum + segment});
  }
}

void fake_quantize_input(const LinearInput& input, std::span<float> row, const AffineParams& shared) {
  const QuantizerFormat& format = input.format;
  if (!format.enabled()) return;
  const QuantRange range = quant_range(format.bits, format.symmetric);
  if (format.is_static()) {
    fake_quantize(row, input.parameters.scale[0], format.symmetric ? 0 : input.parameters.zero_point[0], range);
    return;
  }
  if (input.per_call()) {
    fake_quantize(row, shared.scale, shared.zero_point, range);
    return;
  }
  const std::size_t group = format.granularity == Granularity::group
                                ? std::min(static_cast<std::size_t>(format.group), row.size())
                                : row.size();
  for (std::size_t first = 0; first < row.size(); first += group) {
    const std::span<float> slice = row.subspan(first, std::min(group, row.size() - first));
    const MinMax bounds = min_max(slice);
    const AffineParams params = dynamic_params(format, input.parameters.clip, bounds.min, bounds.max);
    fake_quantize(slice, params.scale, params.zero_point, range);
  }
}

}  // namespace pq::runtime
