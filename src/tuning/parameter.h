#pragma once

#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "model/recipe.h"

namespace pq::quant {

/// What a parameter is, which decides its learning rate and the values that it may take.
enum class ParameterKind { weight, weight_scale, weight_zero_point, site_scale, site_zero_point, site_clip };

/// Whether it belongs to a quantizer of activations, K or V.
inline bool is_of_site(ParameterKind kind) { return kind >= ParameterKind::site_scale; }

/// A float32 leaf that is tuned.
struct Parameter {
  std::string name;
  ParameterKind kind;
  at::Tensor value;
  double rate;          ///< the learning rate it begins with; 0: it stays, and needs no gradient
  at::Tensor smallest;  ///< of scales and clip factors, like `value`; else undefined
};

/// A scale that shrank to this share of its start has lost its tensor: no step of the optimizer takes it further.
inline constexpr double smallest_scale_share = 0.01;

/// A parameter that begins with a copy of `start`.
Parameter make_parameter(std::string name, ParameterKind kind, const at::Tensor& start, double rate);

/// The learning rate that `rate` stands for, for a tensor with changes of size `unit` that matter: with relative_rates
/// in proportion to it.
double learning_rate(const FinetuneSettings& settings, double rate, double unit);
/// The unit of a tensor of scales: their mean size. That of weights is their scales'; where they have none, this.
double scale_unit(const at::Tensor& scale);
inline constexpr double reference_scale = 0.01;

/// After a step: scales and clip factors stay positive, zero points inside 16 bits.
void keep_in_range(const std::vector<Parameter>& parameters);

}  // namespace pq::quant
