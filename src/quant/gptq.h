#pragma once

#include <ATen/ATen.h>

#include <string_view>

#include "quant/quantizer.h"

namespace pq::quant {

/// What GPTQ needs of the inputs' X^T X, [in, in]: the upper Cholesky factor of its inverse, damped by 1% of the mean
/// diagonal (by more, with a warning, where that is not enough for float32). One factor serves all layers that read the
/// same input. `name` stands in the warning.
at::Tensor compensation_factor(const at::Tensor& gram, std::string_view name);

/// What an error of each column costs behind GPTQ, [in]: one over the square of the factor's diagonal, for what later
/// columns can make up for is gone from it.
at::Tensor column_importance(const at::Tensor& factor);

/// Whether GPTQ can choose a group's scales when it comes to its columns: groups that blocks of 128 columns hold whole.
bool chooses_group_scales(const QuantizerFormat& format);

/// Rounds a weight column by column and lets the columns that follow make up for each one's error (GPTQ, Frantar et al.
/// 2022, arXiv 2210.17323; blocks of 128, natural order). weight [out, in]; clip [out, groups]; factor [in, in] of
/// compensation_factor(). Scales and zero points are those of quantize_weight for `clip`, so that only the codes differ
/// from round-to-nearest; with `search`, where chooses_group_scales(), each group's are instead those of the clip grid
/// (its ends clipped together in symmetric formats, up to four steps apart in others) that make the least error by
/// column_importance() of what earlier columns left to it. `compensated` receives [out, in] the weights as they were
/// rounded, each column with what earlier ones left to it: quantize() of them gives the codes.
WeightCodes quantize_weight_compensated(const at::Tensor& weight, const at::Tensor& clip, const at::Tensor& factor,
                                        const QuantizerFormat& format, const SearchSettings* search = nullptr,
                                        at::Tensor* compensated = nullptr);

/// Rounds a weight with these clip factors: by GPTQ where there is a `factor`, which leaves the compensated weights in
/// `weight`, else each value to its nearest code. `search` as above.
WeightCodes round_weight(at::Tensor& weight, const at::Tensor& clip, const at::Tensor& factor,
                         const QuantizerFormat& format, const SearchSettings* search = nullptr);

}  // namespace pq::quant
