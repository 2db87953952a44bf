#include "tuning/adamw.h"

#include <ATen/core/grad_mode.h>

#include <cmath>
#include <numbers>
#include <utility>

namespace pq::quant {

namespace {

constexpr double beta1 = 0.9;
constexpr double beta2 = 0.999;
constexpr double epsilon = 1e-8;

}  // namespace

AdamW::AdamW(std::vector<at::Tensor> parameters) : parameters_(std::move(parameters)) {
  for (const at::Tensor& parameter : parameters_) {
    moments_.push_back({at::zeros_like(parameter.detach()), at::zeros_like(parameter.detach())});
  }
}

void AdamW::step(const std::vector<double>& rates) {
  const at::NoGradGuard no_grad;
  ++steps_;
  const double correction1 = 1 - std::pow(beta1, static_cast<double>(steps_));
  const double correction2 = std::sqrt(1 - std::pow(beta2, static_cast<double>(steps_)));
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const at::Tensor& gradient = parameters_[i].grad();
    if (!gradient.defined()) continue;
    moments_[i].first.mul_(beta1).add_(gradient, 1 - beta1);
    moments_[i].second.mul_(beta2).addcmul_(gradient, gradient, 1 - beta2);
    const at::Tensor denominator = moments_[i].second.sqrt().div_(correction2).add_(epsilon);
    parameters_[i].addcdiv_(moments_[i].first, denominator, -rates[i] / correction1);
  }
}

double cosine_rate(double rate, std::int64_t step, std::int64_t total) {
  const double done = static_cast<double>(step) / static_cast<double>(total);
  const double lowest = rate / 10;
  return lowest + (rate - lowest) / 2 * (1 + std::cos(std::numbers::pi * done));
}

double clip_gradients(const std::vector<at::Tensor>& parameters, double limit) {
  const at::NoGradGuard no_grad;
  double squares = 0;
  for (const at::Tensor& parameter : parameters) {
    if (parameter.grad().defined()) squares += parameter.grad().square().sum(at::kDouble).item<double>();
  }
  const double norm = std::sqrt(squares);
  if (norm > limit) {
    for (const at::Tensor& parameter : parameters) {
      if (parameter.grad().defined()) parameter.grad().mul_(limit / norm);
    }
  }
  return norm;
}

}  // namespace pq::quant
