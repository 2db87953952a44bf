#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <vector>

#include "quant/quantizer.h"

namespace pq::quant {

namespace grids {
std::vector<double> weight_clip(const SearchSettings& settings);  ///< 1.0 down to weight_min
}  // namespace grids

/// The error of every output channel and group [rows, groups] that a rounded weight's difference [rows, in] makes.
using WeightError = std::function<at::Tensor(const at::Tensor& difference)>;

/// The clip factors [rows, groups] of the grid with which rounding `weight` [rows, in] makes the least error.
at::Tensor best_weight_clip(const at::Tensor& weight, const QuantizerFormat& format, const SearchSettings& settings,
                            const WeightError& error_of);

/// Clip factors [out, groups] of a weight [out, in] that minimize, for every output channel and group, the squared
/// error of the output as far as each input makes it alone: sum over i of input_power[i] * (w_i - w^_i)^2, input_power
/// [in] the diagonal of the inputs' X^T X. Rounding errors of different inputs have no sign in common, so in the mean
/// that is the whole error; GPTQ deals with the rest. Rows a few at a time, so that a candidate stays in the cache.
at::Tensor search_weight_clip(const at::Tensor& weight, const at::Tensor& input_power, const QuantizerFormat& format,
                              const SearchSettings& settings);

}  // namespace pq::quant
