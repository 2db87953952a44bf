#pragma once

#include <ATen/ATen.h>

namespace pq::quant {

// The arithmetic of numerics/two_level.h on tensors: the same values, bit for bit, for float32 inputs.

/// s_c of the rows of a weight [out, in]: [out, 1].
at::Tensor channel_scales(const at::Tensor& weight);

/// Whole numbers in floats, [out, groups].
struct GroupScaleTensors {
  at::Tensor scale;
  at::Tensor zero_point;
};

/// The group scales that hold low .. high [out, groups] best, under channel scales [out, 1].
GroupScaleTensors group_scales(const at::Tensor& low, const at::Tensor& high, const at::Tensor& channel);
/// Zero points moved into the range that their group scales allow.
at::Tensor allowed_zero_points(const at::Tensor& zero_point, const at::Tensor& group_scale);

}  // namespace pq::quant
