#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <map>
#include <set>
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

/// Counts outlier tokens block by block, while whoever drives it takes the sequences through the model.
class OutlierDetection {
 public:
  /// `set` and `settings` are borrowed. `prefix`: tokens that stand before every sequence. The very first token that
  /// the model sees is an outlier whatever it says, so that it counts among the positions and not among the tokens.
  OutlierDetection(const CalibrationSet& set, const PrefixSettings& settings, std::int64_t prefix = 0);

  void begin_block();
  /// Token maxima [batch, tokens] of the sequences `first` and on at down_product, block_output, query or key; other
  /// sites are passed over. Each sequence comes once a block.
  void add(Site site, const at::Tensor& maxima, std::int64_t first);
  /// The prefix's own token maxima [1, tokens] at down_product, held against the medians of sequences whose maxima are
  /// [batch, tokens]: its outliers count among the positions, once a sequence.
  void add_prefix(const at::Tensor& prefix_maxima, const at::Tensor& maxima);
  /// What was found up to now, without `seconds`.
  OutlierReport report() const;

 private:
  struct Sums {
    SiteSum down, output, query, key;
  };
  void record(std::int64_t sequence, std::int64_t index);

  const CalibrationSet& set_;
  const PrefixSettings& settings_;
  std::int64_t prefix_;
  std::vector<Sums> blocks_;
  std::map<std::int32_t, std::int64_t> counts_;
  std::map<std::int32_t, std::set<std::int64_t>> sequences_of_;
  std::vector<std::int64_t> positions_;
};

/// One forward pass over `set`, one block in memory at a time, unquantized, without a prefix; in bfloat16 where
/// load_rounded_block() has it.
OutlierReport find_outliers(const io::HfCheckpoint& checkpoint, const CalibrationSet& set,
                            const PrefixSettings& settings, const at::TensorOptions& options);

}  // namespace pq::quant
