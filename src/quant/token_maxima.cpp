#include "quant/token_maxima.h"

#include <algorithm>

#include "numerics/outlier_tokens.h"

namespace pq::quant {

void SiteSum::add(const SiteOutliers& part, std::int64_t count) {
  sum.mean_upper += part.mean_upper * static_cast<double>(count);
  sum.mean_lower += part.mean_lower * static_cast<double>(count);
  sum.upper_share += part.upper_share * static_cast<double>(count);
  sum.max_ratio = std::max(sum.max_ratio, part.max_ratio);
  sum.max_inverse_ratio = std::max(sum.max_inverse_ratio, part.max_inverse_ratio);
  sequences += count;
}

SiteOutliers SiteSum::mean() const {
  SiteOutliers result = sum;
  result.mean_upper /= static_cast<double>(std::max<std::int64_t>(1, sequences));
  result.mean_lower /= static_cast<double>(std::max<std::int64_t>(1, sequences));
  result.upper_share /= static_cast<double>(std::max<std::int64_t>(1, sequences));
  return result;
}

at::Tensor token_maxima(const at::Tensor& x) {
  const at::Tensor flat = x.dim() > 3 ? x.flatten(2) : x;
  return at::maximum(flat.amax(-1), flat.amin(-1).neg()).to(at::kCPU, at::kFloat).contiguous();
}

SiteOutliers measure_outliers(const at::Tensor& maxima, const PrefixSettings& settings,
                              const std::function<void(std::int64_t, std::int64_t)>& on_upper) {
  SiteSum sum;
  const std::int64_t sequences = maxima.size(0);
  const std::int64_t length = maxima.size(1);
  const float* data = maxima.data_ptr<float>();
  for (std::int64_t s = 0; s < sequences; ++s) {
    const auto record = [&](std::size_t token) {
      if (on_upper) on_upper(s, static_cast<std::int64_t>(token));
    };
    const SequenceOutliers found = find_outlier_tokens({data + s * length, static_cast<std::size_t>(length)},
                                                       settings.upper_threshold, settings.lower_threshold, record);
    SiteOutliers one;
    one.mean_upper = static_cast<double>(found.upper);
    one.mean_lower = static_cast<double>(found.lower);
    one.max_ratio = found.max_ratio;
    one.max_inverse_ratio = found.max_inverse_ratio;
    one.upper_share = one.mean_upper > 0 ? 1 : 0;
    sum.add(one, 1);
  }
  return sum.mean();
}

at::Tensor upper_outlier_mask(const at::Tensor& maxima, const PrefixSettings& settings, SiteOutliers* seen) {
  at::Tensor mask = at::zeros(maxima.sizes(), at::kBool);
  const SiteOutliers measured =
      measure_outliers(maxima, settings, [&](std::int64_t s, std::int64_t i) { mask[s][i].fill_(true); });
  if (seen != nullptr) *seen = measured;
  return mask;
}

at::Tensor without_tokens(const at::Tensor& x, const at::Tensor& skip) {
  if (!skip.any().item<bool>()) return x;
  at::Tensor mask = skip.to(x.device());
  while (mask.dim() < x.dim()) mask = mask.unsqueeze(-1);
  return x.masked_fill(mask, 0);
}

}  // namespace pq::quant
