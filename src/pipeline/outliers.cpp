#include "pipeline/outliers.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "base/phase_timer.h"
#include "base/progress.h"
#include "nn/batches.h"
#include "nn/model_context.h"
#include "nn/transformer.h"
#include "pipeline/streams.h"

namespace pq::quant {
namespace {

Json to_json(const SiteOutliers& site) {
  return {{"upper_per_sequence", site.mean_upper},
          {"lower_per_sequence", site.mean_lower},
          {"max_ratio", site.max_ratio},
          {"max_inverse_ratio", site.max_inverse_ratio}};
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

OutlierReport find_outliers(const io::HfCheckpoint& checkpoint, const CalibrationSet& set,
                            const PrefixSettings& settings, const at::TensorOptions& options) {
  const at::NoGradGuard no_grad;
  const PhaseTimer timer("find outliers");
  const ModelSpec& spec = checkpoint.spec();
  const std::int64_t samples = set.samples();
  const std::int64_t length = set.length();
  const std::int64_t batch = nn::sequences_together(length);
  const nn::ModelContext model(spec, {}, length, options);
  at::Tensor stream = nn::embed(checkpoint, to_token_tensor(set, options.device()), options);

  OutlierReport report;
  report.sequences = samples;
  std::map<std::int32_t, std::int64_t> counts;
  std::map<std::int32_t, std::set<std::int64_t>> sequences_of;
  std::vector<std::int64_t> positions(static_cast<std::size_t>(length));
  Progress progress("find prefix", static_cast<std::size_t>(spec.block_count));
  for (std::int64_t index = 0; index < spec.block_count; ++index) {
    const nn::Block block = nn::load_block(checkpoint, index, options);
    const nn::BlockContext context = model.block(index);
    SiteSum down;
    SiteSum output;
    SiteSum query;
    SiteSum key;
    for (std::int64_t begin = 0; begin < samples; begin += batch) {
      const std::int64_t count = std::min(batch, samples - begin);
      const auto tap = [&](Site site, const at::Tensor& x) {
        if (site == Site::down_product) {
          const auto record = [&](std::int64_t s, std::int64_t position) {
            ++positions[static_cast<std::size_t>(position)];
            if (position == 0) return;
            const std::int32_t id =
                set.sequences[static_cast<std::size_t>(begin + s)][static_cast<std::size_t>(position)];
            ++counts[id];
            sequences_of[id].insert(begin + s);
          };
          down.add(measure_outliers(token_maxima(x), settings, record), count);
        } else if (site == Site::block_output) {
          output.add(measure_outliers(token_maxima(x), settings), count);
        } else if (site == Site::query) {
          query.add(measure_outliers(token_maxima(x), settings), count);
        } else if (site == Site::key) {
          key.add(measure_outliers(token_maxima(x), settings), count);
        }
        return x;
      };
      at::Tensor rows = stream.narrow(0, begin, count);
      rows.copy_(nn::forward(block, context, rows, tap));
    }
    report.blocks.push_back({down.mean(), output.mean(), query.mean(), key.mean()});
    progress.advance();
  }
  double most = 0;
  for (const BlockOutliers& block : report.blocks) most = std::max(most, block.down_product.mean_upper);
  report.outlier_count = static_cast<std::int64_t>(std::ceil(most - 1e-9));
  for (const auto& [id, count] : counts) {
    report.tokens.push_back({id, count, static_cast<double>(sequences_of[id].size()) / static_cast<double>(samples)});
  }
  std::stable_sort(report.tokens.begin(), report.tokens.end(),
                   [](const OutlierToken& a, const OutlierToken& b) { return a.count > b.count; });
  while (!positions.empty() && positions.back() == 0) positions.pop_back();
  report.position_counts = std::move(positions);
  report.seconds = timer.seconds();
  return report;
}

}  // namespace pq::quant
