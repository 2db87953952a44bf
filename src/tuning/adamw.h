#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

namespace pq::quant {

/// AdamW without weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101; betas 0.9 and 0.999, epsilon 1e-8): the
/// values of torch::optim::AdamW. Its moments are plain tensors, so that they can be saved and sent.
class AdamW {
 public:
  struct Moments {
    at::Tensor first;   // like the parameter
    at::Tensor second;  // like the parameter
  };

  /// `parameters` are leaves; those without a gradient at a step are left alone by it.
  explicit AdamW(std::vector<at::Tensor> parameters);
  /// One step with a learning rate for every parameter.
  void step(const std::vector<double>& rates);

  std::vector<Moments>& moments() { return moments_; }
  std::int64_t steps() const { return steps_; }
  void set_steps(std::int64_t steps) { steps_ = steps; }

 private:
  std::vector<at::Tensor> parameters_;
  std::vector<Moments> moments_;
  std::int64_t steps_ = 0;
};

/// Learning rate of step `step` of `total`: from `rate` down to rate / 10 on half a cosine.
double cosine_rate(double rate, std::int64_t step, std::int64_t total);

/// Scales all gradients so that their norm together is at most `limit`. Returns the norm before.
double clip_gradients(const std::vector<at::Tensor>& parameters, double limit);

}  // namespace pq::quant
