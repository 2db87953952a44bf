#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "model/recipe.h"
#include "numerics/quantize.h"
#include "quant/quantizer.h"

namespace pq::quant {

/// x seen as [outer, slices, inner], row-major: slice i of every outer row shares scale i.
/// weights: {1, out*groups, group}; a static tensor: {1, 1, numel}; static K/V: {tokens, kv_heads, head_dim};
/// dynamic: {1, slices, inner}.
struct SliceLayout {
  std::int64_t outer = 1;
  std::int64_t slices = 1;
  std::int64_t inner = 1;
};

struct FakeQuantizeSetting {
  SliceLayout layout;
  QuantizerFormat format;
  QuantRange range() const { return quant_range(format.bits, format.symmetric); }
};

struct FakeQuantizeGradients {
  at::Tensor x;           // undefined where not wanted
  at::Tensor scale;       // [slices] float64
  at::Tensor zero_point;  // [slices] float64
};

/// What dynamic quantizers computed from their input.
struct DynamicScales {
  MinMaxTensors bounds;  // [slices]
  ScaleTensors scales;   // [slices]
};

}  // namespace pq::quant
