#include "tuning/parameter.h"

#include <utility>

namespace pq::quant {
namespace {

constexpr double largest_zero_point = 32767;

bool is_zero_point(ParameterKind kind) {
  return kind == ParameterKind::weight_zero_point || kind == ParameterKind::site_zero_point;
}

}  // namespace

Parameter make_parameter(std::string name, ParameterKind kind, const at::Tensor& start, double rate) {
  Parameter parameter{std::move(name), kind, start.detach().clone(at::MemoryFormat::Contiguous), rate, {}};
  if (kind != ParameterKind::weight && !is_zero_point(kind)) {
    parameter.smallest = parameter.value.abs() * smallest_scale_share;
  }
  parameter.value.set_requires_grad(rate > 0);
  return parameter;
}

double learning_rate(const FinetuneSettings& settings, double rate, double unit) {
  return settings.relative_rates ? rate * unit / reference_scale : rate;
}

double scale_unit(const at::Tensor& scale) { return scale.abs().mean().item<double>(); }

void keep_in_range(const std::vector<Parameter>& parameters) {
  const at::NoGradGuard no_grad;
  for (const Parameter& parameter : parameters) {
    at::Tensor value = parameter.value;
    if (parameter.smallest.defined()) {
      at::maximum_out(value, value, parameter.smallest);
    } else if (is_zero_point(parameter.kind)) {
      value.clamp_(-largest_zero_point, largest_zero_point);
    }
  }
}

}  // namespace pq::quant
