#include "pipeline/block_statistics.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "numerics/order_statistics.h"
#include "numerics/outlier_tokens.h"
#include "quant/quantizer.h"
#include "quant/token_maxima.h"

namespace pq::quant {

using report::Watched;

void MaximaSum::add(const at::Tensor& maxima, const PrefixSettings& settings, std::int64_t first) {
  const std::int64_t length = maxima.size(1);
  for (std::int64_t s = 0; s < maxima.size(0); ++s) {
    const std::span<const float> row(maxima.data_ptr<float>() + s * length, static_cast<std::size_t>(length));
    const OrderStatistics order = order_statistics(row);
    const SequenceOutliers outliers = find_outlier_tokens(row, settings.upper_threshold, settings.lower_threshold);
    for (std::size_t i = 0; i < order.top.size(); ++i) {
      sum_.top[i] = std::max(sum_.top[i], static_cast<double>(order.top[i]));
      sum_.least[i] = sequences_ == 0 ? order.least[i] : std::min(sum_.least[i], static_cast<double>(order.least[i]));
    }
    sum_.median += order.median;
    sum_.upper_per_sequence += static_cast<double>(outliers.upper);
    sum_.lower_per_sequence += static_cast<double>(outliers.lower);
    const auto at = [&](auto found) { return report::TokenPlace{first + s, found - row.begin()}; };
    if (outliers.max_ratio > sum_.top_ratio) {
      sum_.top_ratio = outliers.max_ratio;
      sum_.top_token = at(std::max_element(row.begin(), row.end()));
    }
    if (outliers.max_inverse_ratio > sum_.least_ratio) {
      sum_.least_ratio = outliers.max_inverse_ratio;
      sum_.least_token = at(std::min_element(row.begin(), row.end(), [](float a, float b) {
        return a > 0 && (b <= 0 || a < b);  // tokens of zeros have no ratio
      }));
    }
    ++sequences_;
  }
}

report::TokenMaxima MaximaSum::result() const {
  report::TokenMaxima result = sum_;
  const auto count = static_cast<double>(std::max<std::int64_t>(1, sequences_));
  for (double* mean : {&result.median, &result.upper_per_sequence, &result.lower_per_sequence}) *mean /= count;
  return result;
}

at::Tensor BlockStatistics::maxima(std::string_view name, const at::Tensor& x) const {
  at::Tensor found = token_maxima(x);
  if (!at::isfinite(found).all().item<bool>()) {
    throw InputError(where_, fmt::format("{} is not finite", name), "the model overflows on this text");
  }
  return found;
}

void BlockStatistics::watch(Watched tensor, const at::Tensor& values, std::int64_t first) {
  sums_[tensor].add(values, settings_, first);
}

void BlockStatistics::keep(const at::Tensor& x) {
  if (columns_ > 0 && !magnitudes_) magnitudes_ = pooled_magnitudes(x[0], columns_);
}

void BlockStatistics::see(Site site, const at::Tensor& x, std::int64_t first) {
  const auto detect = [&](const at::Tensor& values) {
    if (detection_ != nullptr) detection_->add(site, values, first);
  };
  const bool transforms = context_.transforms != nullptr;
  switch (site) {
    case Site::qkv_input:
      return watch(Watched::qkv_input, maxima("the input of q_proj", x), first);
    case Site::o_input:
      return watch(Watched::o_input, maxima("the input of o_proj", x), first);
    case Site::gate_up_input:
      return watch(Watched::gate_up_input, maxima("the input of gate_proj", x), first);
    case Site::query: {
      const at::Tensor plain = maxima("Q", x);
      detect(plain);
      query_ = transforms ? context_.transforms->query.apply(x) : x;
      return watch(Watched::query, query_.is_same(x) ? plain : maxima("Q", query_), first);
    }
    case Site::key:
      if (detection_ != nullptr) detect(maxima("K", x));
      return;
    case Site::k_cache:
      key_ = x;
      return watch(Watched::key, maxima("K", x), first);
    case Site::v_cache:
      return watch(Watched::value, maxima("V", x), first);
    case Site::down_product: {
      product_maxima_ = at::Tensor();
      if (detection_ == nullptr && transforms && !context_.transforms->sites[Site::down_input].empty()) return;
      product_maxima_ = maxima("the input of down_proj", x);
      detect(product_maxima_);
      if (detection_ != nullptr && prefix_maxima_.defined()) detection_->add_prefix(prefix_maxima_, product_maxima_);
      return;
    }
    case Site::down_input: {
      keep(x);
      const bool same = !transforms || context_.transforms->sites[Site::down_input].empty();
      return watch(Watched::down_input, same ? product_maxima_ : maxima("the input of down_proj", x), first);
    }
    case Site::block_output: {
      const at::Tensor values = maxima("the block's output", x);
      detect(values);
      return watch(Watched::block_output, values, first);
    }
  }
}

nn::Tap BlockStatistics::tap(std::int64_t first) {
  return [this, first](Site site, const at::Tensor& x) {
    see(site, x, first);
    return x;
  };
}

void BlockStatistics::move_to(report::BlockAnalysis& block) const {
  for (const report::WatchedRow& row : report::watched_rows) block.maxima[row.id] = sums_[row.id].result();
  block.magnitudes = magnitudes_;
}

report::MagnitudeMap pooled_magnitudes(const at::Tensor& x, std::int64_t columns) {
  report::MagnitudeMap map;
  const std::int64_t channels = x.size(1);
  map.tokens = x.size(0);
  map.channels_in_column = (channels + columns - 1) / columns;
  map.columns = (channels + map.channels_in_column - 1) / map.channels_in_column;
  const at::Tensor padded = at::constant_pad_nd(x.abs(), {0, map.columns * map.channels_in_column - channels});
  map.magnitudes = to_floats(padded.view({map.tokens, map.columns, map.channels_in_column}).amax(-1));
  return map;
}

namespace {

nn::Tap error_tap() {
  QuantizerFormat format;
  format.bits = error_bits;
  return [format](Site site, const at::Tensor& x) {
    const bool linear_input = !is_kv(site) && !readers_of(site).empty();
    return linear_input ? SiteFakeQuantizer(site, format, 1, 1)(x) : x;
  };
}

}  // namespace

void ErrorSum::add(const nn::Block& block, const nn::BlockContext& context, const at::Tensor& x,
                   const at::Tensor& output) {
  const at::Tensor rounded = nn::forward(block, context, x, error_tap());
  const at::Tensor errors = (rounded - output).to(at::kDouble).square().sum(-1).to(at::kCPU);  // [batch, tokens]
  const std::int64_t worst = std::min<std::int64_t>(static_cast<std::int64_t>(sum_.worst_share.size()), errors.size(1));
  const auto [largest, places] = at::topk(errors, worst, -1);
  const at::Tensor carried = largest.cumsum(-1).sum(0);
  for (std::int64_t i = 0; i < worst; ++i) {
    const auto at = static_cast<std::size_t>(i);
    sum_.worst_share[at] += carried[i].item<double>();
    if (values_ == 0) sum_.worst_tokens[at] = {0, places[0][i].item<std::int64_t>()};
  }
  squared_error_ += errors.sum().item<double>();
  squared_output_ += output.to(at::kDouble).square().sum().item<double>();
  values_ += output.numel();
}

report::ErrorShare ErrorSum::result() const {
  report::ErrorShare result = sum_;
  if (values_ > 0) result.mean_squared_error = squared_error_ / static_cast<double>(values_);
  if (squared_output_ > 0) result.relative_error = squared_error_ / squared_output_;
  for (double& share : result.worst_share) share = squared_error_ > 0 ? share / squared_error_ : 0;
  return result;
}

void PrefixAttention::add(const nn::BlockContext& context, const at::Tensor& q, const at::Tensor& k) {
  const std::int64_t pinned = context.prefix->length();
  const std::int64_t kv_heads = k.size(2), group = q.size(2) / kv_heads;
  const at::Tensor keys = at::cat({context.prefix->key.expand({k.size(0), -1, -1, -1}), k}, 1);
  if (!sum_.defined()) sum_ = at::zeros({kv_heads, group}, at::kDouble);
  const auto receive = [&](const nn::AttentionTile& tile, std::int64_t first_pair, const at::Tensor& probabilities) {
    const at::Tensor on_prefix = probabilities.narrow(2, 0, pinned)
                                     .sum(-1, false, at::kDouble)
                                     .view({-1, tile.queries, group})
                                     .sum(1)
                                     .to(at::kCPU);  // [pairs, group]
    for (std::int64_t i = 0; i < on_prefix.size(0); ++i) sum_[(first_pair + i) % kv_heads] += on_prefix[i];
  };
  nn::attention_probabilities(q, keys, pinned, context.window, context.spec->score_scale(), receive);
  queries_ += q.size(0) * q.size(1);
}

std::vector<double> PrefixAttention::result() const {
  const at::Tensor mean = (sum_ / static_cast<double>(std::max<std::int64_t>(1, queries_))).flatten().contiguous();
  return {mean.data_ptr<double>(), mean.data_ptr<double>() + mean.numel()};
}

}  // namespace pq::quant
