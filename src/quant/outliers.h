#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "base/json.h"
#include "io/hf_checkpoint.h"
#include "model/recipe.h"
#include "nn/block.h"
#include "quant/calibration.h"

namespace pq::quant {

/// One block's outlier tokens at one site, over all calibration sequences.
struct SiteOutliers {
  double mean_upper = 0;         ///< upper outlier tokens a sequence
  double mean_lower = 0;         ///< lower outlier tokens a sequence
  double max_ratio = 0;          ///< largest M_i / median(M)
  double max_inverse_ratio = 0;  ///< largest median(M) / M_i
};

struct BlockOutliers {
  SiteOutliers down_product;  ///< input of down_proj, before R4: the prefix is chosen from this one
  SiteOutliers block_output;
  SiteOutliers query;
  SiteOutliers key;
};

/// A token id that was an upper outlier at a position other than 0.
struct OutlierToken {
  std::int32_t id = 0;
  std::int64_t count = 0;     ///< over all sequences and blocks
  double sequence_share = 0;  ///< share of the sequences in which it was one
};

/// What one pass over the calibration sequences found (paper, section 4.1).
struct OutlierReport {
  std::vector<BlockOutliers> blocks;
  std::vector<OutlierToken> tokens;  ///< in descending count, ties by id
  std::vector<std::int64_t>
      position_counts;             ///< outlier tokens by position, summed over sequences and blocks; trailing zeros cut
  std::int64_t outlier_count = 0;  ///< o = ceil(max over blocks of mean_upper of down_product)
  std::int64_t sequences = 0;
  double seconds = 0;
};
Json outlier_report_to_json(const OutlierReport& report);

/// Token-wise maxima max_c |X_ic| of x [batch, tokens, ..]: float32 [batch, tokens], on the CPU.
at::Tensor token_maxima(const at::Tensor& x);

/// Upper and lower outliers of token maxima [batch, tokens]; the median is each sequence's own (the mean of the two
/// middle values for an even number). `on_upper(sequence, position)` is called for every upper outlier.
SiteOutliers measure_outliers(const at::Tensor& maxima, const PrefixSettings& settings,
                              const std::function<void(std::int64_t, std::int64_t)>& on_upper = {});

/// Which tokens of maxima [batch, tokens] are upper outliers: bool, same shape.
at::Tensor upper_outlier_mask(const at::Tensor& maxima, const PrefixSettings& settings);

/// One forward pass over `set`, one block in memory at a time, unquantized, without a prefix.
OutlierReport find_outliers(const io::HfCheckpoint& checkpoint, const CalibrationSet& set,
                            const PrefixSettings& settings, const at::TensorOptions& options);

/// [samples, length] int64 on `device`.
at::Tensor to_token_tensor(const CalibrationSet& set, const at::Device& device);

}  // namespace pq::quant
