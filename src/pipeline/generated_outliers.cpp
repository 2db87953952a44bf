#include "pipeline/generated_outliers.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <span>
#include <utility>

#include "base/log.h"
#include "base/memory_usage.h"
#include "base/phase_timer.h"
#include "base/progress.h"
#include "nn/transformer.h"
#include "numerics/outlier_tokens.h"
#include "pipeline/streams.h"
#include "quant/token_maxima.h"

namespace pq::quant {

CalibrationSet generated_text(const Preparation& preparation, const Recipe& recipe,
                              const std::vector<std::int32_t>& prefix, SequenceShape shape, std::string& note) {
  const ModelSpec& spec = preparation.checkpoint().spec();
  const std::int64_t values =
      spec.block_count * block_parameters(spec) + (spec.tied_embeddings ? 1 : 2) * spec.vocab_size * spec.hidden_size;
  const auto bytes = static_cast<std::uint64_t>(values) * sizeof(float);
  if (shape.samples == 0) {
    note = "No text was generated (--generate 0).";
    return {};
  }
  if (bytes > available_bytes() / 2) {
    note = fmt::format("No text was generated: the whole model takes {} of memory.",
                       format_bytes(static_cast<double>(bytes)));
    log_warning("{}", note);
    return {};
  }
  const PhaseTimer timer("generate behind the prefix");
  const auto model = nn::Transformer::load(preparation.checkpoint(), preparation.options());
  model->set_prefix(model->prefix_key_values(prefix));
  const std::int64_t length = std::min(shape.length, spec.max_positions);
  Progress progress("generate", static_cast<std::size_t>(length));
  std::int64_t shown = 0;
  const auto show = [&](std::int64_t done, std::int64_t total) {
    const std::int64_t now = done * length / std::max<std::int64_t>(1, total);
    progress.advance(static_cast<std::size_t>(now - shown));
    shown = now;
  };
  return {model->sample(shape.samples, length, start_token(preparation.tokenizer(), spec), recipe.seed, show)};
}

GeneratedStream::GeneratedStream(const TransformedModel& model, CalibrationSet set, const PrefixSettings& rule)
    : set_(std::move(set)), rule_(rule) {
  if (set_.samples() == 0) return;
  stream_ = embedded_stream(model, set_, {});
  outliers_ = at::zeros({set_.samples(), set_.length()}, at::kBool);
}

void GeneratedStream::advance(const nn::Block& block, const nn::BlockContext& context) {
  if (!stream_.defined()) return;
  std::int64_t begin = 0;
  propagate(block, context, stream_, [&](Site site, const at::Tensor& x) {
    if (site == Site::down_product) {
      const at::Tensor maxima = token_maxima(x);
      outliers_.narrow(0, begin, x.size(0)).logical_or_(upper_outlier_mask(maxima, rule_));
      take_ratios(maxima);
      begin += x.size(0);
    }
    return x;
  });
}

void GeneratedStream::take_ratios(const at::Tensor& maxima) {
  const auto length = static_cast<std::size_t>(maxima.size(1));
  for (std::int64_t s = 0; s < maxima.size(0); ++s) {
    const std::span<const float> row(maxima.data_ptr<float>() + s * maxima.size(1), length);
    const double middle = median(row);
    if (middle > 0 && length > 1) {
      ratio_ = std::max(ratio_, static_cast<double>(*std::max_element(row.begin() + 1, row.end())) / middle);
    }
  }
}

std::optional<report::GeneratedOutliers> GeneratedStream::result(const Tokenizer& tokenizer) const {
  if (!stream_.defined()) return {};
  report::GeneratedOutliers found;
  found.sequences = set_.samples();
  found.tokens = set_.samples() * (set_.length() - 1);
  found.top_ratio = ratio_;
  std::map<std::int32_t, std::int64_t> counts;
  std::map<std::int32_t, std::set<std::size_t>> sequences;
  for (std::size_t s = 0; s < set_.sequences.size(); ++s) {
    const at::Tensor row = outliers_[static_cast<std::int64_t>(s)];
    for (std::int64_t i = 1; i < set_.length(); ++i) {
      if (!row[i].item<bool>()) continue;
      const std::int32_t id = set_.sequences[s][static_cast<std::size_t>(i)];
      ++found.outliers;
      ++counts[id];
      sequences[id].insert(s);
    }
  }
  for (const auto& [id, count] : counts) {
    const double share = static_cast<double>(sequences[id].size()) / static_cast<double>(set_.samples());
    found.by_token.push_back({id, tokenizer.token_text(id), count, share});
  }
  std::stable_sort(found.by_token.begin(), found.by_token.end(),
                   [](const auto& a, const auto& b) { return a.count > b.count; });
  return found;
}

}  // namespace pq::quant
