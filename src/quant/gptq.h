#pragma once

#include <ATen/ATen.h>

#include <string_view>

#include "quant/quantizer.h"

namespace pq::quant {

/// What GPTQ needs of the inputs' X^T X, [in, in]: the upper Cholesky factor of its inverse, damped by 1% of the mean
/// diagonal (by more, with a warning, where that is not enough for float32). One factor serves all layers that read the
/// same input. `name` stands in the warning.
at::Tensor compensation_factor(const at::Tensor& gram, std::string_view name);

/// Rounds a weight column by column and lets the columns that follow make up for each one's error (GPTQ, Frantar et al.
/// 2022, arXiv 2210.17323; blocks of 128, natural order). Scales and zero points are those of quantize_weight for
/// `clip`, so only the codes differ from round-to-nearest. weight [out, in]; clip [out, groups]; factor [in, in] of
/// compensation_factor(). `compensated` receives [out, in] the weights as they were rounded, each column with what
/// earlier ones left to it: quantize() of them gives the codes.
WeightCodes quantize_weight_compensated(const at::Tensor& weight, const at::Tensor& clip, const at::Tensor& factor,
                                        const QuantizerFormat& format, at::Tensor* compensated = nullptr);

/// Rounds a weight with these clip factors: by GPTQ where there is a `factor`, which leaves the compensated weights in
/// `weight`, else each value to its nearest code.
WeightCodes round_weight(at::Tensor& weight, const at::Tensor& clip, const at::Tensor& factor,
                         const QuantizerFormat& format);

}  // namespace pq::quant
