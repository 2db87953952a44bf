#include "quant/weight_clip.h"

#include <algorithm>
#include <cmath>

namespace pq::quant {
namespace {

constexpr std::int64_t cpu_values = std::int64_t{1} << 18;

}  // namespace

std::vector<double> grids::weight_clip(const SearchSettings& settings) {
  const int count = static_cast<int>(std::floor((1.0 - settings.weight_min) / settings.weight_step + 1e-9)) + 1;
  std::vector<double> factors;
  for (int i = 0; i < count; ++i) factors.push_back(1.0 - settings.weight_step * i);
  return factors;
}

at::Tensor best_weight_clip(const at::Tensor& weight, const QuantizerFormat& format, const SearchSettings& settings,
                            const WeightError& error_of) {
  at::Tensor best;
  at::Tensor best_error;
  for (const double factor : grids::weight_clip(settings)) {
    const at::Tensor clip = at::full({weight.size(0), format.groups(weight.size(1))}, factor, weight.options());
    const at::Tensor rounded = dequantize_weight(quantize_weight(weight, clip, format), format);
    const at::Tensor error = error_of(weight - rounded);
    if (!best.defined()) {
      best = clip;
      best_error = error;
      continue;
    }
    const at::Tensor better = error < best_error;
    best_error = at::where(better, error, best_error);
    best = at::where(better, clip, best);
  }
  return best;
}

at::Tensor search_weight_clip(const at::Tensor& weight, const at::Tensor& input_power, const QuantizerFormat& format,
                              const SearchSettings& settings) {
  // [groups, group]; zeros behind a short last group, whose split repeats its last column
  const std::int64_t groups = format.groups(weight.size(1));
  const std::int64_t group = groups == 1 ? weight.size(1) : format.group;
  const at::Tensor power = at::zeros({groups, group}, weight.options());
  power.view(-1).narrow(0, 0, weight.size(1)).copy_(input_power);
  const WeightError error_of = [&](const at::Tensor& difference) {
    return split_groups(difference, format).square().mul_(power).sum(-1);
  };
  const std::int64_t step = weight.is_cuda() ? weight.size(0) : std::max<std::int64_t>(1, cpu_values / weight.size(1));
  std::vector<at::Tensor> parts;
  for (std::int64_t begin = 0; begin < weight.size(0); begin += step) {
    const at::Tensor rows = weight.narrow(0, begin, std::min(step, weight.size(0) - begin));
    parts.push_back(best_weight_clip(rows, format, settings, error_of));
  }
  return at::cat(parts);
}

}  // namespace pq::quant
