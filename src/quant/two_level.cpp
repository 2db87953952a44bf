#include "quant/two_level.h"

#include "numerics/two_level.h"

namespace pq::quant {
namespace {

/// A divisor as a tensor on the device: CUDA would multiply by the reciprocal of a plain number.
at::Tensor number(double value, const at::Tensor& like) { return at::full({}, value, like.options()); }

}  // namespace

at::Tensor channel_scales(const at::Tensor& weight) {
  const at::Tensor scale = weight.abs().amax(1, true) / number(two_level::protective_range, weight);
  return at::where(scale == 0, at::ones_like(scale), scale);
}

at::Tensor allowed_zero_points(const at::Tensor& zero_point, const at::Tensor& group_scale) {
  const at::Tensor low = (two_level::largest_code - (number(127, group_scale) / group_scale).floor()).clamp_min(0);
  const at::Tensor high = (number(128, group_scale) / group_scale).floor().clamp_max(two_level::largest_code);
  return at::minimum(at::maximum(zero_point, low), high);
}

GroupScaleTensors group_scales(const at::Tensor& low, const at::Tensor& high, const at::Tensor& channel) {
  const at::Tensor below = low.clamp_max(0);
  const at::Tensor steps = (high.clamp_min(0) - below) / number(two_level::largest_code, low) / channel;
  const at::Tensor scale = at::nan_to_num(steps, 1.0).round().clamp(1, two_level::largest_group_scale);
  const at::Tensor zero_point = at::nan_to_num(below.neg() / (channel * scale), 0.0).round();
  return {scale, allowed_zero_points(zero_point, scale)};
}

}  // namespace pq::quant
