#include "pipeline/outliers.h"

#include <algorithm>
#include <cmath>

#include "base/phase_timer.h"
#include "base/progress.h"
#include "nn/batches.h"
#include "nn/model_context.h"
#include "nn/transformer.h"
#include "numerics/outlier_tokens.h"
#include "pipeline/rounded_block.h"
#include "pipeline/streams.h"

namespace pq::quant {
namespace {

Json to_json(const SiteOutliers& site) {
  return {{"upper_per_sequence", site.mean_upper},
          {"lower_per_sequence", site.mean_lower},
          {"max_ratio", site.max_ratio},
          {"max_inverse_ratio", site.max_inverse_ratio}};
}

/// Whether OutlierDetection::add looks at the site.
bool detects(Site site) {
  return site == Site::down_product || site == Site::block_output || site == Site::query || site == Site::key;
}

}  // namespace

Json outlier_report_to_json(const OutlierReport& report) {
  Json json{{"outlier_count", report.outlier_count}, {"sequences", report.sequences}, {"seconds", report.seconds}};
  json["tokens"] = Json::array();
  for (const OutlierToken& token : report.tokens) {
    json["tokens"].push_back({{"id", token.id}, {"count", token.count}, {"sequence_share", token.sequence_share}});
  }
  json["position_counts"] = report.position_counts;
  json["blocks"] = Json::array();
  for (const BlockOutliers& block : report.blocks) {
    json["blocks"].push_back({{"down_product", to_json(block.down_product)},
                              {"block_output", to_json(block.block_output)},
                              {"query", to_json(block.query)},
                              {"key", to_json(block.key)}});
  }
  return json;
}

OutlierDetection::OutlierDetection(const CalibrationSet& set, const PrefixSettings& settings, std::int64_t prefix)
    : set_(set), settings_(settings), prefix_(prefix), positions_(static_cast<std::size_t>(prefix + set.length())) {}

void OutlierDetection::begin_block() { blocks_.emplace_back(); }

void OutlierDetection::record(std::int64_t sequence, std::int64_t index) {
  const std::int64_t position = prefix_ + index;
  ++positions_[static_cast<std::size_t>(position)];
  if (position == 0) return;
  const std::int32_t id = set_.sequences[static_cast<std::size_t>(sequence)][static_cast<std::size_t>(index)];
  ++counts_[id];
  sequences_of_[id].insert(sequence);
}

void OutlierDetection::add(Site site, const at::Tensor& maxima, std::int64_t first) {
  Sums& sums = blocks_.back();
  const std::int64_t count = maxima.size(0);
  if (site == Site::down_product) {
    const auto on_upper = [&](std::int64_t s, std::int64_t index) { record(first + s, index); };
    sums.down.add(measure_outliers(maxima, settings_, on_upper), count);
  } else if (site == Site::block_output) {
    sums.output.add(measure_outliers(maxima, settings_), count);
  } else if (site == Site::query) {
    sums.query.add(measure_outliers(maxima, settings_), count);
  } else if (site == Site::key) {
    sums.key.add(measure_outliers(maxima, settings_), count);
  }
}

void OutlierDetection::add_prefix(const at::Tensor& prefix_maxima, const at::Tensor& maxima) {
  const auto length = static_cast<std::size_t>(maxima.size(1));
  for (std::int64_t s = 0; s < maxima.size(0); ++s) {
    const double middle = median({maxima.data_ptr<float>() + s * maxima.size(1), length});
    for (std::int64_t i = 0; i < prefix_maxima.size(1); ++i) {
      if (prefix_maxima.data_ptr<float>()[i] > settings_.upper_threshold * middle) {
        ++positions_[static_cast<std::size_t>(i)];
      }
    }
  }
}

OutlierReport OutlierDetection::report() const {
  OutlierReport report;
  report.sequences = set_.samples();
  double most = 0;
  for (const Sums& sums : blocks_) {
    report.blocks.push_back({sums.down.mean(), sums.output.mean(), sums.query.mean(), sums.key.mean()});
    most = std::max(most, report.blocks.back().down_product.mean_upper);
  }
  report.outlier_count = static_cast<std::int64_t>(std::ceil(most - 1e-9));
  for (const auto& [id, count] : counts_) {
    const auto sequences = static_cast<double>(sequences_of_.at(id).size());
    report.tokens.push_back({id, count, sequences / static_cast<double>(set_.samples())});
  }
  std::stable_sort(report.tokens.begin(), report.tokens.end(),
                   [](const OutlierToken& a, const OutlierToken& b) { return a.count > b.count; });
  report.position_counts = positions_;
  while (!report.position_counts.empty() && report.position_counts.back() == 0) report.position_counts.pop_back();
  return report;
}

OutlierReport find_outliers(const io::HfCheckpoint& checkpoint, const CalibrationSet& set,
                            const PrefixSettings& settings, const at::TensorOptions& options) {
  const at::NoGradGuard no_grad;
  const PhaseTimer timer("find outliers");
  const ModelSpec& spec = checkpoint.spec();
  const std::int64_t samples = set.samples();
  const std::int64_t batch = nn::sequences_together(set.length());
  const nn::ModelContext model(spec, {}, set.length(), options);
  at::Tensor stream = nn::embed(checkpoint, to_token_tensor(set, options.device()), options);
  OutlierDetection detection(set, settings);
  Progress progress("find prefix", static_cast<std::size_t>(spec.block_count));
  for (std::int64_t index = 0; index < spec.block_count; ++index) {
    const nn::Block block = load_rounded_block(checkpoint, index, options);
    const nn::BlockContext context = model.block(index);
    detection.begin_block();
    for (std::int64_t begin = 0; begin < samples; begin += batch) {
      const auto tap = [&](Site site, const at::Tensor& x) {
        if (detects(site)) detection.add(site, token_maxima(x), begin);
        return x;
      };
      at::Tensor rows = stream.narrow(0, begin, std::min(batch, samples - begin));
      rows.copy_(nn::forward(block, context, rows, tap));
    }
    progress.advance();
  }
  OutlierReport report = detection.report();
  report.seconds = timer.seconds();
  return report;
}

}  // namespace pq::quant
