#include "quant/weight_clip.h"

#include <algorithm>

#include "quant/grid_search.h"

namespace pq::quant {
namespace {

constexpr std::int64_t cpu_values = std::int64_t{1} << 18;

}  // namespace

at::Tensor search_weight_clip(const at::Tensor& weight, const at::Tensor& input_power, const QuantizerFormat& format,
                              const SearchSettings& settings) {
  const std::int64_t groups = format.groups(weight.size(1));
  const at::Tensor power = split_groups(input_power.unsqueeze(0), format);  // [1, groups, group]
  const std::int64_t step = weight.is_cuda() ? weight.size(0) : std::max<std::int64_t>(1, cpu_values / weight.size(1));
  at::Tensor best = at::ones({weight.size(0), groups}, weight.options());
  for (std::int64_t begin = 0; begin < weight.size(0); begin += step) {
    const at::Tensor rows = weight.narrow(0, begin, std::min(step, weight.size(0) - begin));
    at::Tensor best_rows = best.narrow(0, begin, rows.size(0));
    at::Tensor best_error;
    for (const double factor : grids::weight_clip(settings)) {
      const at::Tensor clip = at::full({rows.size(0), groups}, factor, weight.options());
      const at::Tensor difference = dequantize_weight(quantize_weight(rows, clip, format), format).sub_(rows);
      const at::Tensor error = split_groups(difference, format).square().mul_(power).sum(-1);
      if (!best_error.defined()) {
        best_error = error;
        best_rows.fill_(factor);
        continue;
      }
      const at::Tensor better = error < best_error;
      best_error = at::where(better, error, best_error);
      best_rows.copy_(at::where(better, clip, best_rows));
    }
  }
  return best;
}

}  // namespace pq::quant
