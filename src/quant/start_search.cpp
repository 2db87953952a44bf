#include "quant/start_search.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <span>
#include <utility>

#include "base/error.h"
#include "base/phase_timer.h"
#include "base/random.h"
#include "model/block_formats.h"
#include "nn/batches.h"
#include "quant/gptq.h"
#include "quant/key_positions.h"
#include "quant/site_search.h"
#include "quant/weight_clip.h"

namespace pq::quant {
namespace {

constexpr std::int64_t rows_in_sample = 2048;
constexpr std::int64_t rows_in_sketch = 256;
constexpr std::int64_t gram_columns = 512;
constexpr std::int64_t bytes_to_hold = std::int64_t{2} << 30;

/// x^T x of rows [n, in] added to the upper block triangle of `gram`: what is below follows from symmetry.
void add_gram(at::Tensor& gram, const at::Tensor& rows) {
  const std::int64_t columns = rows.size(1);
  for (std::int64_t begin = 0; begin < columns; begin += gram_columns) {
    const std::int64_t count = std::min(gram_columns, columns - begin);
    at::Tensor block = gram.narrow(0, 0, begin + count).narrow(1, begin, count);
    block.addmm_(rows.narrow(1, 0, begin + count).t(), rows.narrow(1, begin, count));
  }
}

/// What add_gram left out, from what stands above it; in place, for these are the largest matrices of all.
void mirror_gram(at::Tensor& gram) {
  const std::int64_t columns = gram.size(0);
  for (std::int64_t begin = 0; begin < columns; begin += gram_columns) {
    const std::int64_t count = std::min(gram_columns, columns - begin);
    const std::int64_t end = begin + count;
    at::Tensor square = gram.narrow(0, begin, count).narrow(1, begin, count);
    square.copy_(square.triu() + square.triu(1).t());
    if (end == columns) break;
    at::Tensor below = gram.narrow(0, end, columns - end).narrow(1, begin, count);
    below.copy_(gram.narrow(0, begin, count).narrow(1, end, columns - end).t());
  }
}

class Walk {
 public:
  Walk(nn::Block block, const nn::BlockContext& context, at::Tensor& stream, std::int64_t search_sequences,
       const Recipe& recipe, std::int64_t index)
      : context_(context),
        recipe_(recipe),
        formats_(block_formats(recipe, index)),
        name_(fmt::format("block {}", index)),
        stream_(stream),
        search_sequences_(std::min(search_sequences, stream.size(0))),
        rounded_(block) {
    result_.start.block = std::move(block);
    const std::int64_t step = nn::sequences_together(stream.size(1));
    for (std::int64_t begin = 0; begin < stream.size(0);) {
      // A batch belongs to the search as a whole or not at all.
      const std::int64_t end = begin < search_sequences ? std::min(search_sequences, stream.size(0)) : stream.size(0);
      const std::int64_t count = std::min(step, end - begin);
      batches_.push_back({stream.narrow(0, begin, count), begin < search_sequences, {}, {}, {}});
      begin += count;
    }
    const ModelSpec& spec = *context.spec;
    const std::int64_t widest = spec.intermediate_size + 2 * spec.hidden_size;
    hold_all_ = stream.size(0) * stream.size(1) * widest * 4 <= bytes_to_hold;
  }

  StartSearch run(bool advance) {
    for (const LinearId id : all_linears) {
      const auto dead = (rounded_[id].weight.abs().amax(1) == 0).sum().item<std::int64_t>();
      if (dead > 0) {
        result_.warnings.push_back(fmt::format("{}: {} of {} output channels have no weight that is not zero",
                                               tensor_names::linear_in_block(id), dead, rounded_[id].weight.size(0)));
      }
    }
    quantize_inputs(Site::qkv_input);
    search_caches();
    quantize_inputs(Site::o_input);
    quantize_inputs(Site::gate_up_input);
    quantize_inputs(Site::down_input);
    for (Batch& batch : batches_) {
      if (advance) {
        const at::Tensor before = middle(batch);
        batch.x.copy_(nn::mlp_output(rounded_, context_, before, input(batch, Site::down_input), {}));
      }
      batch = {};
    }
    result_.left = left_.mean();
    return std::move(result_);
  }

 private:
  struct Batch {
    at::Tensor x;
    bool searched = false;
    PerSite<at::Tensor> inputs;  ///< what a stage reads, where it is held: rounded once the stage is done
    at::Tensor middle;           ///< residual stream between attention and MLP, where it is held
    PerSite<at::Tensor> skip;    ///< [batch, tokens] outliers behind the prefix; undefined where there are none
  };

  /// The stream may lie on another device than the block.
  at::Tensor on_device(const at::Tensor& x) const { return x.to(rounded_[LinearId::q].weight.device()); }
  bool quantized(LinearId id) const { return formats_.weight[id].enabled(); }
  std::int64_t first_position() const { return context_.prefix == nullptr ? 0 : context_.prefix->length(); }
  bool behind_prefix() const { return first_position() > 0; }

  SiteFakeQuantizer quantizer(Site site) const {
    return {site, formats_.site[site], result_.start.sites[site], rounded_[LinearId::q].weight.options()};
  }

  /// What the linear layers at `site` read, rounded where that stage is done.
  at::Tensor input(Batch& batch, Site site) {
    at::Tensor& held = batch.inputs[site];
    if (held.defined()) return held;
    at::Tensor x;
    if (site == Site::qkv_input) {
      x = nn::qkv_input(rounded_, context_, on_device(batch.x), {});
    } else if (site == Site::o_input) {
      nn::Qkv qkv = nn::project_qkv(rounded_, context_, input(batch, Site::qkv_input), first_position(), {});
      release(batch, Site::qkv_input);
      qkv.k = quantizer(Site::k_cache)(qkv.k);
      qkv.v = quantizer(Site::v_cache)(qkv.v);
      x = nn::attend(context_, qkv);
    } else if (site == Site::gate_up_input) {
      x = nn::gate_up_input(rounded_, context_, middle(batch), {});
    } else {
      x = nn::gated_product(rounded_, context_, input(batch, Site::gate_up_input),
                            [&](Site at, const at::Tensor& value) {
                              if (at == Site::down_product) note_outliers(batch, Site::down_input, value);
                              return value;
                            });
      release(batch, Site::gate_up_input);
    }
    if (site != Site::down_input) note_outliers(batch, site, x);
    if (done_[site]) x = quantizer(site)(x);
    if (hold_all_ || batch.searched) held = x;
    return x;
  }

  at::Tensor middle(Batch& batch) {
    if (batch.middle.defined()) return batch.middle;
    const at::Tensor x = nn::attention_output(rounded_, context_, on_device(batch.x), input(batch, Site::o_input), {});
    release(batch, Site::o_input);
    if (hold_all_ || batch.searched) batch.middle = x;
    return x;
  }

  static void release(Batch& batch, Site site) { batch.inputs[site] = at::Tensor(); }

  void note_outliers(Batch& batch, Site site, const at::Tensor& x) {
    const bool counts = site == Site::down_input && batch.searched && !done_[site];
    if (!counts && !behind_prefix()) return;
    SiteOutliers seen;
    const at::Tensor skip = upper_outlier_mask(token_maxima(x), recipe_.prefix, &seen);
    if (counts) left_.add(seen, x.size(0));
    if (behind_prefix() && skip.any().item<bool>()) batch.skip[site] = skip;
  }

  /// The rows of a batch's input that count, [n, in].
  at::Tensor kept_rows(const Batch& batch, Site site, const at::Tensor& x) const {
    const at::Tensor rows = x.flatten(0, 1);
    const at::Tensor& skip = batch.skip[site];
    if (!skip.defined()) return rows;
    return rows.index_select(0, skip.flatten().logical_not().nonzero().squeeze(1).to(rows.device()));
  }

  MinMaxTensors checked(Site site, const MinMaxTensors& range) {
    const at::Tensor both = at::cat({range.min, range.max}).to(at::kCPU);
    if (!both.isfinite().all().item<bool>()) {
      throw InputError(fmt::format("{}: {}", name_, site_name(site)), "holds values that are not finite",
                       "check the model's weights: pq eval MODEL shows whether it works unquantized");
    }
    if ((range.max == range.min).any().item<bool>()) {
      result_.warnings.push_back(fmt::format(
          "{} is constant on all calibration tokens: its scale says nothing about other text", site_name(site)));
    }
    return range;
  }

  void take(Site site, const SiteChoice& choice) {
    result_.start.sites[site] = choice.quantizer;
    if (choice.at_edge) {
      result_.warnings.push_back(fmt::format("{}: the factor {:.2f} that was found is at the edge of what is tried",
                                             site_name(site), choice.factor));
    }
  }

  /// At most rows_in_sample rows of the search sequences' input, in random order.
  at::Tensor sample(Site site) {
    std::vector<at::Tensor> rows;
    for (Batch& batch : batches_) {
      if (batch.searched) rows.push_back(kept_rows(batch, site, input(batch, site)));
    }
    const at::Tensor whole = at::cat(rows);
    std::vector<std::int64_t> order(static_cast<std::size_t>(whole.size(0)));
    std::iota(order.begin(), order.end(), std::int64_t{0});
    Random(recipe_.seed, "search rows").shuffle(order);
    order.resize(std::min(order.size(), static_cast<std::size_t>(rows_in_sample)));
    return whole.index_select(0, at::tensor(order, at::kLong).to(whole.device()));
  }

  SiteChoice choose(Site site) {
    const PhaseTimer timer(fmt::format("{}: search of {}", name_, site_name(site)));
    const QuantizerFormat& format = formats_.site[site];
    MinMaxTensors range;
    for (Batch& batch : batches_) {
      if (batch.searched) range = merge(range, static_slices(site, kept_rows(batch, site, input(batch, site))));
    }
    checked(site, range);
    if (!recipe_.search.activation) return plain(site, range);
    std::vector<at::Tensor> weights;
    for (const LinearId id : readers_of(site)) weights.push_back(rounded_[id].weight);
    return search_input(site, format, sample(site), sketch(weights, rows_in_sketch, recipe_.seed), range);
  }

  /// A quantizer that is not searched.
  SiteChoice plain(Site site, const MinMaxTensors& range) const {
    SiteChoice choice;
    choice.quantizer = fixed_site_quantizer(range, formats_.site[site]);
    return choice;
  }

  void quantize_inputs(Site site) {
    const PhaseTimer timer(fmt::format("{}: {}", name_, site_name(site)));
    if (formats_.site[site].enabled()) take(site, choose(site));
    const std::span<const LinearId> readers = readers_of(site);
    const bool rounds = std::any_of(readers.begin(), readers.end(), [&](LinearId id) { return quantized(id); });
    const bool by_error = rounds && (recipe_.search.weight || recipe_.search.gptq);
    const SiteFakeQuantizer rounding = quantizer(site);
    at::Tensor gram;
    for (Batch& batch : batches_) {
      if (!by_error && !batch.inputs[site].defined()) continue;
      // What is held is rounded here; what is not held is rounded by input() once `done_` says so.
      const at::Tensor x = input(batch, site);
      const at::Tensor rounded = rounding(x);
      if (by_error) {
        const at::Tensor rows = kept_rows(batch, site, rounded);
        if (!gram.defined()) gram = at::zeros({rows.size(1), rows.size(1)}, rows.options());
        add_gram(gram, rows);
      }
      if (batch.inputs[site].defined()) batch.inputs[site] = rounded;
    }
    done_[site] = true;
    if (!rounds) return;
    if (gram.defined()) mirror_gram(gram);
    round_weights(site, std::move(gram));
  }

  void round_weights(Site site, at::Tensor gram) {
    const PhaseTimer timer(fmt::format("{}: weights behind {}", name_, site_name(site)));
    at::Tensor energy;  // of each input
    if (gram.defined()) {
      energy = gram.diagonal().clone();
      const auto dead = (energy == 0).sum().item<std::int64_t>();
      if (dead > 0) {
        result_.warnings.push_back(fmt::format("{}: {} of {} channels are zero on all calibration tokens",
                                               site_name(site), dead, energy.size(0)));
      }
    }
    at::Tensor factor;
    if (recipe_.search.gptq) factor = compensation_factor(gram, fmt::format("{}: {}", name_, site_name(site)));
    gram = at::Tensor();
    for (const LinearId id : readers_of(site)) {
      if (!quantized(id)) continue;
      const QuantizerFormat& format = formats_.weight[id];
      at::Tensor& weight = result_.start.block[id].weight;
      const bool by_group = factor.defined() && chooses_group_scales(format);  // GPTQ searches itself
      const at::Tensor clip = recipe_.search.weight && !by_group
                                  ? search_weight_clip(weight, energy, format, recipe_.search)
                                  : fixed_clip(weight, format);
      const WeightCodes codes =
          round_weight(weight, clip, factor, format, recipe_.search.weight ? &recipe_.search : nullptr);
      result_.start.weight_scales[id] = codes.scales;
      rounded_[id].weight = dequantize_weight(codes, format);
    }
  }

  void search_caches() {
    const QuantizerFormat& format = formats_.site[Site::k_cache];
    if (!format.enabled()) return;
    const PhaseTimer timer(fmt::format("{}: K and V", name_));
    // Ranges of all search sequences; the first of them are what the searches see.
    std::vector<at::Tensor> q, k, v;
    MinMaxTensors key_range, value_range;
    std::int64_t index = 0;
    for (Batch& batch : batches_) {
      if (!batch.searched) continue;
      const at::Tensor h = input(batch, Site::qkv_input);
      const nn::Qkv qkv = project_spread(rounded_, context_, h, first_position(), index, search_sequences_, recipe_);
      key_range = merge(key_range, cache_range(Site::k_cache, qkv.k));
      value_range = merge(value_range, cache_range(Site::v_cache, qkv.v));
      if (index < key_sequences) {
        q.push_back(qkv.q);
        k.push_back(qkv.k);
        v.push_back(qkv.v);
      }
      index += h.size(0);
    }
    const nn::Qkv first{at::cat(q), at::cat(k), at::cat(v)};
    checked(Site::k_cache, key_range);
    checked(Site::v_cache, value_range);
    const bool search = recipe_.search.kv;
    take(Site::k_cache, search ? search_keys(format, first, context_, key_range) : plain(Site::k_cache, key_range));
    take(Site::v_cache, search ? search_values(formats_.site[Site::v_cache], first.v, value_range)
                               : plain(Site::v_cache, value_range));
  }

  MinMaxTensors cache_range(Site site, const at::Tensor& x) const {
    if (!behind_prefix()) return static_slices(site, x);
    return static_slices(site, without_tokens(x, upper_outlier_mask(token_maxima(x), recipe_.prefix)));
  }

  const nn::BlockContext& context_;
  const Recipe& recipe_;
  BlockFormats formats_;
  std::string name_;
  at::Tensor& stream_;
  std::int64_t search_sequences_;
  nn::Block rounded_;  ///< the block with the weights rounded whose stage is done
  std::vector<Batch> batches_;
  PerSite<bool> done_{};
  bool hold_all_ = true;
  SiteSum left_;
  StartSearch result_;
};

}  // namespace

StartSearch search_start(nn::Block block, const nn::BlockContext& context, at::Tensor& stream,
                         std::int64_t search_sequences, const Recipe& recipe, std::int64_t index, bool advance) {
  return Walk(std::move(block), context, stream, search_sequences, recipe, index).run(advance);
}

}  // namespace pq::quant
