#include "quant/grid_search.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "nn/batches.h"
#include "quant/token_maxima.h"
#include "quant/weight_clip.h"

namespace pq::quant {
namespace grids {
namespace {

std::vector<double> range(double first, double step, int count) {
  std::vector<double> values;
  for (int i = 0; i < count; ++i) values.push_back(first + step * i);
  return values;
}

}  // namespace

std::vector<double> static_coarse() { return range(0.25, 0.1, 8); }
std::vector<double> static_fine(double best) {
  std::vector<double> values = range(best - 0.05, 0.01, 11);
  values.erase(values.begin() + 5);
  return values;
}
std::vector<double> dynamic_clip() { return range(0.6, 0.05, 9); }
std::vector<double> kv_clip() { return range(0.3, 0.05, 15); }

}  // namespace grids

namespace {

std::int64_t together(const at::Tensor& x) { return nn::sequences_together(x.size(1)); }

}  // namespace

GridSearch::GridSearch(const nn::Block& block, const nn::BlockContext& context, const at::Tensor& x,
                       const Recipe& recipe, const BlockFormats& formats)
    : block_(block), context_(context), recipe_(recipe), formats_(formats), x_(x) {
  std::vector<at::Tensor> h, q, k, v, attended, middle, g, product, output, outliers;
  const std::int64_t first = context.prefix == nullptr ? 0 : context.prefix->length();
  const nn::Tap watch = [&](Site site, const at::Tensor& value) {
    if (site == Site::down_product) outliers.push_back(upper_outlier_mask(token_maxima(value), recipe.prefix));
    return value;
  };
  for (std::int64_t s = 0; s < x.size(0); s += together(x)) {
    const at::Tensor row = x.narrow(0, s, std::min(together(x), x.size(0) - s));
    h.push_back(nn::qkv_input(block, context, row, {}));
    const nn::Qkv qkv = nn::project_qkv(block, context, h.back(), first, {});
    q.push_back(qkv.q);
    k.push_back(qkv.k);
    v.push_back(qkv.v);
    attended.push_back(nn::attend(context, qkv));
    middle.push_back(nn::attention_output(block, context, row, attended.back(), {}));
    g.push_back(nn::gate_up_input(block, context, middle.back(), {}));
    product.push_back(nn::gated_product(block, context, g.back(), watch));
    output.push_back(nn::mlp_output(block, context, middle.back(), product.back(), {}));
  }
  const auto join = [](std::vector<at::Tensor>& parts) {
    at::Tensor whole = at::cat(parts);
    parts.clear();
    return whole;
  };
  h_ = join(h);
  qkv_ = {join(q), join(k), join(v)};
  attended_ = join(attended);
  middle_ = join(middle);
  g_ = join(g);
  product_ = join(product);
  output_ = join(output);
  const at::Tensor skip = join(outliers);
  if (first > 0 && skip.any().item<bool>()) keep_ = skip.logical_not().unsqueeze(-1).to(x.options());
}

void GridSearch::finish_sites() {
  qkv_ = {};
  middle_ = output_ = at::Tensor();
}

const at::Tensor& GridSearch::input_at(Site site) const {
  switch (site) {
    case Site::qkv_input:
      return h_;
    case Site::o_input:
      return attended_;
    case Site::gate_up_input:
      return g_;
    default:
      return product_;
  }
}

at::Tensor GridSearch::gram(Site input) const {
  const at::Tensor& x = input_at(input);
  const at::Tensor rows = (keep_.defined() ? x * keep_ : x).flatten(0, 1);
  return at::mm(rows.t(), rows);
}

at::Tensor GridSearch::weight_clip(LinearId linear, const at::Tensor& gram) const {
  const at::Tensor& weight = block_[linear].weight;
  const QuantizerFormat& format = formats_.weight[linear];
  const std::int64_t groups = format.groups(weight.size(1));
  if (!recipe_.search.weight) return fixed_clip(weight, format);

  // Σ_tokens (x·Δw)² = Δw (XᵀX) Δwᵀ: the inputs enter through their Gram matrix alone, one diagonal block of it a
  // group.
  at::Tensor by_group = gram.unsqueeze(0);  // [groups, group, group]
  if (groups > 1) {
    by_group = at::zeros({groups, format.group, format.group}, weight.options());
    for (std::int64_t i = 0; i < groups; ++i) {
      const std::int64_t begin = i * format.group;
      const std::int64_t size = std::min(format.group, weight.size(1) - begin);
      by_group[i].narrow(0, 0, size).narrow(1, 0, size).copy_(gram.narrow(0, begin, size).narrow(1, begin, size));
    }
  }
  return best_weight_clip(weight, format, recipe_.search, [&](const at::Tensor& difference) {
    const at::Tensor delta = split_groups(difference, format).transpose(0, 1);  // [groups, out, group]
    return at::bmm(delta, by_group).mul_(delta).sum(-1).t();                    // [out, groups]
  });
}

double GridSearch::output_error(Site site, const SiteFakeQuantizer& quantizer, double limit,
                                std::int64_t sequences) const {
  const nn::Tap tap = [&](Site at_site, const at::Tensor& x) { return at_site == site ? quantizer(x) : x; };
  const std::int64_t first = context_.prefix == nullptr ? 0 : context_.prefix->length();
  double error = 0;
  const std::int64_t total = std::min(sequences, x_.size(0));
  for (std::int64_t s = 0; s < total && error <= limit; s += together(x_)) {
    const std::int64_t count = std::min(together(x_), total - s);
    const auto row = [s, count](const at::Tensor& whole) { return whole.narrow(0, s, count); };
    at::Tensor middle = row(middle_);
    if (site == Site::qkv_input || is_kv(site)) {
      nn::Qkv qkv{row(qkv_.q), row(qkv_.k), row(qkv_.v)};
      if (site == Site::qkv_input) {
        qkv = nn::project_qkv(block_, context_, quantizer(row(h_)), first, {});
      } else if (site == Site::k_cache) {
        qkv.k = quantizer(qkv.k);
      } else {
        qkv.v = quantizer(qkv.v);
      }
      middle = nn::attention_output(block_, context_, row(x_), nn::attend(context_, qkv), {});
    } else if (site == Site::o_input) {
      middle = nn::attention_output(block_, context_, row(x_), row(attended_), tap);
    }
    at::Tensor product = row(product_);
    if (site != Site::down_input) {
      const at::Tensor g =
          site == Site::gate_up_input ? quantizer(row(g_)) : nn::gate_up_input(block_, context_, middle, {});
      product = nn::gated_product(block_, context_, g, {});
    }
    const at::Tensor output = nn::mlp_output(block_, context_, middle, product, tap);
    at::Tensor difference = output - row(output_);
    if (keep_.defined()) difference.mul_(row(keep_));
    error += difference.square_().sum(at::kDouble).item<double>();
  }
  return error;
}

double GridSearch::search_activation_factor(Site site, const QuantizerFormat& format,
                                            const MinMaxTensors& start) const {
  const auto best_of = [&](const std::vector<double>& factors, std::int64_t sequences) {
    double best = factors.front();
    double best_error = std::numeric_limits<double>::infinity();
    for (const double factor : factors) {
      const at::Tensor tensor = at::full({1}, factor, start.max.options());
      const double error = output_error(site, SiteFakeQuantizer(site, format, range_scales(start, tensor, format)),
                                        best_error, sequences);
      if (error < best_error) {
        best_error = error;
        best = factor;
      }
    }
    return best;
  };
  // Neighbours of the coarse grid lie so far apart that a quarter of the sequences tells them apart.
  const double coarse = best_of(grids::static_coarse(), std::max<std::int64_t>(together(x_), x_.size(0) / 4));
  std::vector<double> fine = grids::static_fine(coarse);
  fine.insert(fine.begin(), coarse);
  return best_of(fine, x_.size(0));
}

at::Tensor GridSearch::search_key_factor(const QuantizerFormat& format, const MinMaxTensors& start) const {
  const ModelSpec& spec = *context_.spec;
  const std::int64_t pinned = context_.prefix == nullptr ? 0 : context_.prefix->length();
  const std::int64_t shared = spec.head_count / spec.kv_head_count;
  const double scale = spec.score_scale();
  const std::vector<double> factors = grids::kv_clip();
  at::Tensor error = at::zeros({static_cast<std::int64_t>(factors.size()), spec.kv_head_count}, at::kDouble);

  for (std::int64_t s = 0; s < x_.size(0); ++s) {
    for (std::int64_t head = 0; head < spec.kv_head_count; ++head) {
      const at::Tensor queries = qkv_.q.narrow(0, s, 1).narrow(2, head * shared, shared);  // [1, tokens, shared, d]
      const at::Tensor key = qkv_.k.narrow(0, s, 1).narrow(2, head, 1).contiguous();       // [1, tokens, 1, d]
      const auto probabilities = [&](const at::Tensor& own, const nn::ReceiveProbabilities& receive) {
        const at::Tensor keys = pinned == 0 ? own : at::cat({context_.prefix->key.narrow(2, head, 1), own}, 1);
        nn::attention_probabilities(queries, keys, pinned, context_.window, scale, receive);
      };
      std::vector<at::Tensor> targets;  // one a tile
      probabilities(key, [&](const nn::AttentionTile&, std::int64_t, const at::Tensor& p) { targets.push_back(p); });
      const MinMaxTensors own{start.min.narrow(0, head, 1), start.max.narrow(0, head, 1)};
      for (std::size_t i = 0; i < factors.size(); ++i) {
        const at::Tensor factor = at::full({1}, factors[i], start.max.options());
        const at::Tensor rounded = fake_quantize(key, range_scales(own, factor, format), format);
        at::Tensor sum = error[static_cast<std::int64_t>(i)][head];
        auto target = targets.begin();
        probabilities(rounded, [&](const nn::AttentionTile&, std::int64_t, const at::Tensor& p) {
          sum.add_((p - *target++).square_().sum(at::kDouble).to(at::kCPU));
        });
      }
    }
  }
  return factors_as_tensor(factors, spec.kv_head_count)
      .to(at::kDouble)
      .gather(0, error.argmin(0, true))
      .squeeze(0)
      .to(start.max.options());
}

at::Tensor GridSearch::search_value_factor(const QuantizerFormat& format, const MinMaxTensors& start) const {
  const std::vector<double> factors = grids::kv_clip();
  std::vector<at::Tensor> errors;
  for (const double factor : factors) {
    const ScaleTensors scales = range_scales(start, at::full_like(start.max, factor), format);
    const at::Tensor rounded = SiteFakeQuantizer(Site::v_cache, format, scales)(qkv_.v);
    errors.push_back((rounded - qkv_.v).square_().sum({0, 1, 3}, false, at::kDouble).to(at::kCPU));
  }
  const at::Tensor best = at::stack(errors).argmin(0, true);
  return factors_as_tensor(factors, start.max.size(0))
      .to(at::kDouble)
      .gather(0, best)
      .squeeze(0)
      .to(start.max.options());
}

at::Tensor GridSearch::factors_as_tensor(const std::vector<double>& factors, std::int64_t count) const {
  at::Tensor tensor = at::empty({static_cast<std::int64_t>(factors.size()), count}, at::kDouble);
  for (std::size_t i = 0; i < factors.size(); ++i) tensor[static_cast<std::int64_t>(i)].fill_(factors[i]);
  return tensor;
}

SiteQuantizer GridSearch::static_site(Site site, const MinMaxTensors& start) const {
  const QuantizerFormat& format = formats_.site[site];
  at::Tensor factor = at::full_like(start.max, format.clip);
  if (is_kv(site)) {
    if (recipe_.search.kv) {
      factor = site == Site::k_cache ? search_key_factor(format, start) : search_value_factor(format, start);
    }
  } else if (recipe_.search.activation) {
    factor.fill_(search_activation_factor(site, format, start));
  }
  return static_site_quantizer(start, factor, format);
}

SiteQuantizer GridSearch::dynamic_site(Site site) const {
  const QuantizerFormat& format = formats_.site[site];
  if (!(is_kv(site) ? recipe_.search.kv : recipe_.search.activation)) return fixed_site_quantizer({}, format);
  SiteQuantizer result;
  const std::vector<double> factors = grids::dynamic_clip();
  double best_error = std::numeric_limits<double>::infinity();
  for (const double gamma : factors) {
    for (const double beta : format.symmetric ? std::vector<double>{gamma} : factors) {
      const std::array<float, 2> clip{static_cast<float>(gamma), static_cast<float>(beta)};
      const double error = output_error(site, SiteFakeQuantizer(site, format, clip[0], clip[1]), best_error);
      if (error < best_error) {
        best_error = error;
        result.clip = clip;
      }
    }
  }
  return result;
}

SiteQuantizer GridSearch::site(Site site, const MinMaxTensors& start) const {
  const QuantizerFormat& format = formats_.site[site];
  if (!format.enabled()) return {};
  return format.is_static() ? static_site(site, start) : dynamic_site(site);
}

}  // namespace pq::quant
