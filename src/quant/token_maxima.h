#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>

#include "model/recipe.h"

namespace pq::quant {

/// One block's outlier tokens at one site, over all calibration sequences.
struct SiteOutliers {
  double mean_upper = 0;         ///< upper outlier tokens a sequence
  double mean_lower = 0;         ///< lower outlier tokens a sequence
  double upper_share = 0;        ///< share of the sequences that have an upper outlier
  double max_ratio = 0;          ///< largest M_i / median(M)
  double max_inverse_ratio = 0;  ///< largest median(M) / M_i
};

/// Adds up the outliers of one site over batches.
struct SiteSum {
  SiteOutliers sum;
  std::int64_t sequences = 0;

  void add(const SiteOutliers& part, std::int64_t count);
  SiteOutliers mean() const;
};

/// Token-wise maxima max_c |X_ic| of x [batch, tokens, ..]: float32 [batch, tokens], on the CPU.
at::Tensor token_maxima(const at::Tensor& x);

/// Upper and lower outliers of token maxima [batch, tokens]; the median is each sequence's own (the mean of the two
/// middle values for an even number). `on_upper(sequence, position)` is called for every upper outlier.
SiteOutliers measure_outliers(const at::Tensor& maxima, const PrefixSettings& settings,
                              const std::function<void(std::int64_t, std::int64_t)>& on_upper = {});

/// Which tokens of maxima [batch, tokens] are upper outliers: bool, same shape. `seen` receives what measure_outliers()
/// gives.
at::Tensor upper_outlier_mask(const at::Tensor& maxima, const PrefixSettings& settings, SiteOutliers* seen = nullptr);

/// x [batch, tokens, ..] with zeros at the tokens of `skip` [batch, tokens]; x itself where there are none.
at::Tensor without_tokens(const at::Tensor& x, const at::Tensor& skip);

}  // namespace pq::quant
