#pragma once

#include <ATen/ATen.h>

#include "quant/quantizer.h"

namespace pq::quant {

/// Clip factors [out, groups] of a weight [out, in] that minimize, for every output channel and group, the squared
/// error of the output as far as each input makes it alone: sum over i of input_power[i] * (w_i - w^_i)^2, input_power
/// [in] the diagonal of the inputs' X^T X. Rounding errors of different inputs have no sign in common, so in the mean
/// that is the whole error; GPTQ deals with the rest. Rows a few at a time, so that a candidate stays in the cache.
at::Tensor search_weight_clip(const at::Tensor& weight, const at::Tensor& input_power, const QuantizerFormat& format,
                              const SearchSettings& settings);

}  // namespace pq::quant
