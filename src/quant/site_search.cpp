#include "quant/site_search.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "base/random.h"
#include "quant/bracket.h"

namespace pq::quant {
namespace {

// Factors are whole hundredths.
constexpr std::int64_t static_low = 10, static_high = 120;
constexpr std::int64_t dynamic_low = 50, dynamic_high = 110;
constexpr std::int64_t cache_low = 10, cache_high = 110;
constexpr std::int64_t finest = 2;               // nearer neighbours differ by less than a seed does
constexpr std::int64_t queries_in_sample = 128;  // of all sequences, 16 of each at least
constexpr std::int64_t values_in_sample = std::int64_t{1} << 15;

double factor_of(std::int64_t hundredths) { return static_cast<double>(hundredths) / 100; }

std::vector<double> to_doubles(const at::Tensor& x) {
  const at::Tensor plain = x.to(at::kCPU, at::kDouble).contiguous();
  return {plain.data_ptr<double>(), plain.data_ptr<double>() + plain.numel()};
}

/// The factor with the least squared error of the values themselves: where the search of the output error begins.
std::int64_t value_minimum(const QuantizerFormat& format, const at::Tensor& x, const MinMaxTensors& range) {
  const at::Tensor flat = x.flatten();
  const std::int64_t step = std::max<std::int64_t>(1, flat.numel() / values_in_sample);
  const at::Tensor values = flat.slice(0, 0, flat.numel(), step).contiguous();
  std::vector<at::Tensor> errors;
  std::vector<std::int64_t> factors;
  for (std::int64_t factor = 20; factor <= 100; factor += 4) {
    const at::Tensor tensor = at::full({1}, factor_of(factor), range.max.options());
    errors.push_back((fake_quantize(values, range_scales(range, tensor, format), format) - values).square_().sum());
    factors.push_back(factor);
  }
  return factors[static_cast<std::size_t>(at::stack(errors).argmin().item<std::int64_t>())];
}

/// The candidates' errors on rows of a site's input.
class InputErrors {
 public:
  InputErrors(const at::Tensor& x, const at::Tensor& weights) : x_(x), weights_(weights.t()) {}
  std::vector<double> operator()(const SiteFakeQuantizer& quantizer, std::int64_t begin, std::int64_t count) const {
    const at::Tensor rows = x_.narrow(0, begin, count);
    return to_doubles(at::mm((quantizer(rows) - rows), weights_).square_().sum(-1));
  }

 private:
  const at::Tensor& x_;
  at::Tensor weights_;
};

/// Two clip factors of a dynamic quantizer, each found behind the other; one where the format is symmetric.
SiteChoice search_clip(const QuantizerFormat& format,
                       const std::function<bool(std::int64_t, std::int64_t, std::int64_t, std::int64_t)>& less) {
  std::int64_t gamma = bracketed_minimum(90, dynamic_low, dynamic_high, 10, finest,
                                         [&](std::int64_t a, std::int64_t b) { return less(a, a, b, b); });
  std::int64_t beta = gamma;
  if (!format.symmetric) {
    beta = bracketed_minimum(gamma, dynamic_low, dynamic_high, 4, finest,
                             [&](std::int64_t a, std::int64_t b) { return less(gamma, a, gamma, b); });
    gamma = bracketed_minimum(gamma, dynamic_low, dynamic_high, 4, finest,
                              [&](std::int64_t a, std::int64_t b) { return less(a, beta, b, beta); });
  }
  SiteChoice choice;
  choice.quantizer.clip = {static_cast<float>(factor_of(gamma)), static_cast<float>(factor_of(beta))};
  choice.factor = factor_of(gamma);
  choice.at_edge = gamma == dynamic_low || beta == dynamic_low || gamma == dynamic_high || beta == dynamic_high;
  return choice;
}

constexpr std::int64_t pair_of(std::int64_t gamma, std::int64_t beta) { return gamma * 1000 + beta; }

/// One factor a KV head: a coarse grid for all heads at once, then the neighbours of each head's best. `error_of`
/// gives the errors [kv_heads] of factors [kv_heads].
SiteChoice search_heads(const QuantizerFormat& format, const MinMaxTensors& range,
                        const std::function<at::Tensor(const ScaleTensors&)>& error_of) {
  const std::int64_t heads = range.max.size(0);
  at::Tensor best;
  at::Tensor best_error;
  const auto attempt = [&](const at::Tensor& factors) {
    const at::Tensor error = error_of(range_scales(range, factors.to(range.max.options()), format));
    if (!best.defined()) {
      best = factors;
      best_error = error;
      return;
    }
    const at::Tensor better = error < best_error;
    best = at::where(better, factors, best);
    best_error = at::where(better, error, best_error);
  };
  const auto doubles = at::TensorOptions().dtype(at::kDouble);
  for (std::int64_t factor = cache_low; factor <= cache_high; factor += 10) {
    attempt(at::full({heads}, factor_of(factor), doubles));
  }
  for (const double stride : {0.05, 0.025}) {
    const at::Tensor center = best;
    for (const double step : {-stride, stride}) {
      attempt((center + step).clamp(factor_of(cache_low), factor_of(cache_high)));
    }
  }
  SiteChoice choice;
  choice.quantizer = static_site_quantizer(range, best.to(range.max.options()), format);
  choice.factor = best.min().item<double>();
  choice.at_edge = choice.factor <= factor_of(cache_low) || best.max().item<double>() >= factor_of(cache_high);
  return choice;
}

/// The scores of a sample of queries against all keys that each of them sees.
class SampledScores {
 public:
  SampledScores(const nn::Qkv& qkv, const nn::BlockContext& context) : keys_(qkv.k) {
    const std::int64_t batch = qkv.q.size(0), tokens = qkv.q.size(1), dim = qkv.q.size(3);
    const std::int64_t kv_heads = qkv.k.size(2), group = qkv.q.size(2) / kv_heads;
    const std::int64_t count = std::min(std::max<std::int64_t>(16, queries_in_sample / batch), tokens);
    const auto integers = qkv.q.options().dtype(at::kLong);
    // The last of `count` equal stretches: so that the mean query sees as many keys as the mean of all.
    const at::Tensor positions = (at::arange(1, count + 1, integers) * tokens).div(count, "floor") - 1;
    queries_ = qkv.q.index_select(1, positions)
                   .view({batch, count, kv_heads, group, dim})
                   .permute({0, 2, 1, 3, 4})
                   .reshape({batch * kv_heads, count * group, dim});
    const at::Tensor key = at::arange(tokens, integers);
    at::Tensor hidden = key > positions.unsqueeze(1);
    if (context.window > 0) hidden = hidden.logical_or(key <= positions.unsqueeze(1) - context.window);
    hidden_ = hidden.repeat_interleave(group, 0);
  }

  /// Squared error of each KV head [kv_heads] with these keys instead.
  at::Tensor error(const at::Tensor& keys) const {
    const at::Tensor columns = (keys - keys_).permute({0, 2, 3, 1}).reshape({-1, keys.size(3), keys.size(1)});
    const at::Tensor errors = at::bmm(queries_, columns).masked_fill_(hidden_, 0);
    return errors.square_().sum({1, 2}, false, at::kDouble).view({-1, keys.size(2)}).sum(0).to(at::kCPU);
  }

 private:
  at::Tensor keys_;     // [batch, tokens, kv_heads, head_dim]
  at::Tensor queries_;  // [batch * kv_heads, queries * group, head_dim]
  at::Tensor hidden_;   // [queries * group, tokens]
};

/// A dynamic cache quantizer by the error that `error_of` gives for it.
SiteChoice search_cache_clip(Site site, const QuantizerFormat& format,
                             const std::function<double(const SiteFakeQuantizer&)>& error_of) {
  std::map<std::int64_t, double> known;
  const auto error = [&](std::int64_t gamma, std::int64_t beta) {
    const auto [at, fresh] = known.try_emplace(pair_of(gamma, beta), 0.0);
    if (fresh) {
      at->second = error_of(
          SiteFakeQuantizer(site, format, static_cast<float>(factor_of(gamma)), static_cast<float>(factor_of(beta))));
    }
    return at->second;
  };
  return search_clip(format,
                     [&](std::int64_t gamma, std::int64_t beta, std::int64_t other_gamma, std::int64_t other_beta) {
                       return error(gamma, beta) < error(other_gamma, other_beta);
                     });
}

}  // namespace

at::Tensor sketch(const std::vector<at::Tensor>& weights, std::int64_t rows, std::uint64_t seed) {
  const at::Tensor whole = weights.size() == 1 ? weights.front() : at::cat(weights);
  const std::int64_t out = whole.size(0);
  if (out <= 2 * rows) return whole;
  Random random(seed, "sketch");
  at::Tensor signs = at::empty({out, 1}, at::kFloat);
  auto* sign = signs.data_ptr<float>();
  for (std::int64_t i = 0; i < out; ++i) sign[i] = static_cast<float>(random.sign());
  at::Tensor result = at::zeros({rows, whole.size(1)}, whole.options());
  const at::Tensor signed_rows = whole * signs.to(whole.options());
  for (std::int64_t begin = 0; begin < out; begin += rows) {
    const std::int64_t count = std::min(rows, out - begin);
    result.narrow(0, 0, count).add_(signed_rows.narrow(0, begin, count));
  }
  return result;
}

SiteChoice search_input(Site site, const QuantizerFormat& format, const at::Tensor& x, const at::Tensor& weights,
                        const MinMaxTensors& range) {
  const InputErrors errors(x, weights);
  if (!format.is_static()) {
    RowContest contest(x.size(0), [&](std::int64_t pair, std::int64_t begin, std::int64_t count) {
      const SiteFakeQuantizer quantizer(site, format, static_cast<float>(factor_of(pair / 1000)),
                                        static_cast<float>(factor_of(pair % 1000)));
      return errors(quantizer, begin, count);
    });
    SiteChoice choice = search_clip(
        format, [&](std::int64_t gamma, std::int64_t beta, std::int64_t other_gamma, std::int64_t other_beta) {
          return contest.less(pair_of(gamma, beta), pair_of(other_gamma, other_beta));
        });
    choice.evaluated = contest.evaluated();
    return choice;
  }
  RowContest contest(x.size(0), [&](std::int64_t factor, std::int64_t begin, std::int64_t count) {
    const at::Tensor tensor = at::full({1}, factor_of(factor), range.max.options());
    return errors(SiteFakeQuantizer(site, format, range_scales(range, tensor, format)), begin, count);
  });
  const std::int64_t best = bracketed_minimum(value_minimum(format, x, range), static_low, static_high, 8, finest,
                                              [&](std::int64_t a, std::int64_t b) { return contest.less(a, b); });
  SiteChoice choice;
  choice.factor = factor_of(best);
  choice.quantizer = static_site_quantizer(range, at::full({1}, choice.factor, range.max.options()), format);
  choice.at_edge = best == static_low || best == static_high;
  choice.evaluated = contest.evaluated();
  return choice;
}

SiteChoice search_keys(const QuantizerFormat& format, const nn::Qkv& qkv, const nn::BlockContext& context,
                       const MinMaxTensors& range) {
  const SampledScores scores_of(qkv, context);
  if (!format.is_static()) {
    return search_cache_clip(Site::k_cache, format, [&](const SiteFakeQuantizer& quantizer) {
      return scores_of.error(quantizer(qkv.k)).sum().item<double>();
    });
  }
  return search_heads(format, range, [&](const ScaleTensors& scales) {
    return scores_of.error(SiteFakeQuantizer(Site::k_cache, format, scales)(qkv.k));
  });
}

SiteChoice search_values(const QuantizerFormat& format, const at::Tensor& v, const MinMaxTensors& range) {
  const auto error = [&](const SiteFakeQuantizer& quantizer) {
    return (quantizer(v) - v).square_().sum({0, 1, 3}, false, at::kDouble).to(at::kCPU);
  };
  if (!format.is_static()) {
    return search_cache_clip(Site::v_cache, format,
                             [&](const SiteFakeQuantizer& quantizer) { return error(quantizer).sum().item<double>(); });
  }
  return search_heads(format, range, [&](const ScaleTensors& scales) {
    return error(SiteFakeQuantizer(Site::v_cache, format, scales));
  });
}

}  // namespace pq::quant
