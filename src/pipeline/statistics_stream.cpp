#include "pipeline/statistics_stream.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/communicator.h"
#include "base/phase_timer.h"
#include "model/block_formats.h"
#include "pipeline/streams.h"
#include "quant/token_maxima.h"

namespace pq::quant {
bool needs_statistics(const Recipe& recipe) {
  if (searches_in_one_walk(recipe)) return false;
  return has_static_scales(recipe);
}

StatisticsStream::StatisticsStream(const TransformedModel& model, const Recipe& recipe, const CalibrationSet& sequences,
                                   bool behind_prefix)
    : recipe_(recipe), behind_prefix_(behind_prefix) {
  if (!needs_statistics(recipe) || !Communicator::world().is_root()) return;
  stream_ = model.embed(to_token_tensor(sequences, model.options().device()));
  log_stream("statistics", stream_);
}

SiteStatistics StatisticsStream::advance(std::int64_t index, const nn::Block& block, const nn::BlockContext& context) {
  SiteStatistics statistics;
  if (!stream_.defined()) return statistics;
  const PhaseTimer timer(fmt::format("block {}: statistics", index));
  SiteSum left;
  at::Tensor outliers;  // [batch, tokens] of the batch at hand, at down_proj's input
  const nn::Tap tap = [&](Site site, const at::Tensor& x) {
    if (site == Site::down_product) {
      SiteOutliers seen;
      outliers = upper_outlier_mask(token_maxima(x), recipe_.prefix, &seen);
      left.add(seen, x.size(0));
    }
    if (statistics.find(site) == nullptr) return x;
    if (behind_prefix_) {
      const at::Tensor skip = site == Site::down_input ? outliers : upper_outlier_mask(token_maxima(x), recipe_.prefix);
      add_range(statistics, site, without_tokens(x, skip));
    } else {
      add_range(statistics, site, x);
    }
    return x;
  };
  propagate(block, context, stream_, tap);
  remaining_.add(left.mean());
  return statistics;
}

}  // namespace pq::quant
