#pragma once

#include <ATen/ATen.h>

#include "quant/quantizer.h"

namespace pq::quant {

/// Rounds a weight column by column and lets the columns that follow make up for each one's error (GPTQ, Frantar et al.
/// 2022, arXiv 2210.17323; damping 1%, blocks of 128, natural order). Scales and zero points are those of
/// quantize_weight for `clip`, so only the codes differ from round-to-nearest. weight [out, in]; clip [out, groups];
/// gram [in, in]: the inputs' X^T X. `compensated` receives [out, in] the weights as they were rounded, each column
/// with what earlier ones left to it: quantize() of them gives the codes.
WeightCodes quantize_weight_compensated(const at::Tensor& weight, const at::Tensor& clip, const at::Tensor& gram,
                                        const QuantizerFormat& format, at::Tensor* compensated = nullptr);

}  // namespace pq::quant
