#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "kernels/kernels.h"
#include "model/quantized_block.h"
#include "model/recipe.h"
#include "numerics/quantize.h"
#include "runtime/online_transform.h"
#include "runtime/segment_plan.h"

namespace pq::runtime {

/// How the activations at one site reach the linear layers that read them.
struct LinearInput {
  QuantizerFormat format;  ///< 16 bits: nothing is quantized
  SiteQuantizer parameters;
  SegmentPlan plan;  ///< integer: codes for int_gemm; else float32 rows, fake-quantized where `format` says so
  kernels::QuantizeRow spec{};  ///< of a whole row; a dynamic per-tensor scale is filled in for each call
  std::int64_t part = 0;        ///< columns that share a scale where that is more than a segment but not a row; else 0
  OnlineTransform transform{};  ///< of the rows, before anything else
  bool floats = false;  ///< integer plans: some layers read float32 rows all the same, quantized as the codes are
  int bf16_planes = 0;  ///< float plans: several rows at once are rounded to bfloat16 (1), split (float_planes), or not

  /// One scale for all rows of a call.
  bool per_call() const { return format.enabled() && !format.is_static() && format.granularity == Granularity::tensor; }
  /// Whether the norm before it can be fused with it.
  bool fusible() const { return plan.integer && part == 0 && !floats && !per_call() && transform.empty(); }
};

/// For layers of `weight` format over `columns` inputs; `plan` as plan_segments made it.
LinearInput make_linear_input(const QuantizerFormat& format, const SiteQuantizer& parameters, const SegmentPlan& plan);

/// Codes of one row [columns] (integer plans). `shared` is the scale of the whole call where per_call().
void quantize_input(const LinearInput& input, const float* row, const AffineParams& shared,
                    const kernels::QuantizedRow& out, const kernels::KernelTable& table);
/// row <- its fake-quantized values (float plans), with numerics.
void fake_quantize_input(const LinearInput& input, std::span<float> row, const AffineParams& shared);

}  // namespace pq::runtime
