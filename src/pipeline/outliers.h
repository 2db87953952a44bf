#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "base/json.h"
#include "io/hf_checkpoint.h"
#include "model/recipe.h"
#include "nn/block.h"
#include "pipeline/calibration.h"
#include "quant/token_maxima.h"

namespace pq::quant {

struct BlockOutliers {
  SiteOutliers down_product;  ///< input of down_proj, before what it does online: the prefix is chosen from this one
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

/// One forward pass over `set`, one block in memory at a time, unquantized, without a prefix.
OutlierReport find_outliers(const io::HfCheckpoint& checkpoint, const CalibrationSet& set,
                            const PrefixSettings& settings, const at::TensorOptions& options);

}  // namespace pq::quant
