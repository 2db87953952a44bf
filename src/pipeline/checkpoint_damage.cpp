#include "pipeline/checkpoint_damage.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "base/error.h"
#include "base/parallel_for.h"
#include "base/phase_timer.h"
#include "base/progress.h"
#include "eval/softmax.h"
#include "nn/batches.h"
#include "nn/model_context.h"
#include "nn/transformer.h"
#include "pipeline/streams.h"
#include "quant/quantized_model.h"

namespace pq::quant {
namespace {

constexpr std::int64_t rows_together = 256;

at::Tensor logits_of(const Head& head, const at::Tensor& rows) {
  const at::Tensor normed = nn::rms_norm(rows, head.final_norm, head.spec.rms_norm_eps);
  return nn::project_logits(head.spec, head.lm_head, normed).to(at::kCPU, at::kFloat).contiguous();
}

std::span<const float> row_of(const at::Tensor& logits, std::int64_t row) {
  const auto width = static_cast<std::size_t>(logits.size(1));
  return {logits.data_ptr<float>() + static_cast<std::size_t>(row) * width, width};
}

/// Sums `value(row)` over the rows, each with a slot of its own: the same for any number of threads.
template <typename Value>
double sum_over_rows(std::int64_t rows, const Value& value) {
  std::vector<double> values(static_cast<std::size_t>(rows));
  parallel_for(values.size(), 8, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) values[i] = value(static_cast<std::int64_t>(i));
  });
  double sum = 0;
  for (const double one : values) sum += one;
  return sum;
}

std::vector<eval::LogitStats> stats_of(const at::Tensor& logits) {
  std::vector<eval::LogitStats> stats(static_cast<std::size_t>(logits.size(0)));
  parallel_for(stats.size(), 8, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i)
      stats[i] = eval::logit_stats(row_of(logits, static_cast<std::int64_t>(i)));
  });
  for (const eval::LogitStats& one : stats) {
    if (!one.finite) throw FormatError("logits", "hold values that are not finite", eval::overflow_remedy);
  }
  return stats;
}

/// One block of both models; the context borrows from the walk.
struct BlockPair {
  nn::Block whole;
  nn::Block rounded;
  nn::Tap tap;
  nn::KeyValue prefix;
  nn::BlockContext context;
};

/// Both models, block by block, and the streams that go through them.
class Walk {
 public:
  Walk(const TransformedModel& whole, const io::QuantizedCheckpoint& quantized, const at::Tensor& tokens)
      : whole_(whole),
        quantized_(quantized),
        contexts_(quantized.spec(), quantized.site_transforms(), quantized.prefix().length + tokens.size(1),
                  whole.options()),
        embedded_(whole.embed(tokens)),
        head_{quantized.spec(), whole.final_norm(), whole.lm_head(whole.options().dtype().toScalarType())} {}

  const Head& head() const { return head_; }
  const at::Tensor& embedded() const { return embedded_; }
  std::int64_t blocks() const { return quantized_.spec().block_count; }

  /// Calls visit(pair) for one block after the other.
  template <typename Visit>
  void each_block(const char* name, const Visit& visit) {
    Progress progress(name, static_cast<std::size_t>(blocks()));
    const ModelSpec& spec = quantized_.spec();
    for (std::int64_t index = 0; index < blocks(); ++index) {
      BlockPair pair;
      SiteTransforms online;
      pair.whole = whole_.block(index, online);
      const QuantizedBlock block = quantized_.block(index);
      contexts_.set_transforms(index, block.transforms);
      pair.rounded = restore_block(block, spec, quantized_.recipe(), index, whole_.options());
      pair.tap = restore_tap(block, quantized_.recipe(), index, whole_.options());
      pair.whole.key_frame = pair.rounded.key_frame;
      const Prefix& prefix = quantized_.prefix();
      if (!prefix.empty()) {
        pair.prefix =
            restore_prefix(prefix.blocks[static_cast<std::size_t>(index)], spec, prefix.length, whole_.options());
      }
      pair.context = contexts_.block(index, prefix.empty() ? nullptr : &pair.prefix);
      visit(index, pair);
      progress.advance(1);
    }
  }

  /// What a stream becomes, some sequences at a time; the stream itself stays.
  template <typename Forward>
  static at::Tensor through(const at::Tensor& stream, const Forward& forward) {
    at::Tensor out = at::empty_like(stream);
    const std::int64_t step = nn::sequences_together(stream.size(1));
    for (std::int64_t begin = 0; begin < stream.size(0); begin += step) {
      const std::int64_t count = std::min(step, stream.size(0) - begin);
      out.narrow(0, begin, count).copy_(forward(stream.narrow(0, begin, count)));
    }
    return out;
  }
  static at::Tensor through_whole(const BlockPair& pair, const at::Tensor& stream) {
    return through(stream, [&](const at::Tensor& x) { return nn::forward(pair.whole, pair.context, x); });
  }
  static at::Tensor through_rounded(const BlockPair& pair, const at::Tensor& stream) {
    return through(stream, [&](const at::Tensor& x) { return nn::forward(pair.rounded, pair.context, x, pair.tap); });
  }
  static at::Tensor through_parts(const BlockPair& pair, const QuantizedParts& parts, const at::Tensor& stream) {
    return through(stream, [&](const at::Tensor& x) {
      return forward_with(pair.whole, pair.rounded, pair.tap, parts, pair.context, x);
    });
  }

 private:
  const TransformedModel& whole_;
  const io::QuantizedCheckpoint& quantized_;
  nn::ModelContext contexts_;
  at::Tensor embedded_;
  Head head_;
};

void measure_linears(Walk& walk, std::vector<LinearDamage>& linears) {
  const PhaseTimer timer("KL divergence of single linear layers");
  if (linears.empty()) return;
  at::Tensor reference = walk.embedded();
  std::vector<at::Tensor> streams(linears.size());
  walk.each_block("linear layers", [&](std::int64_t index, const BlockPair& pair) {
    for (std::size_t i = 0; i < linears.size(); ++i) {
      if (linears[i].block == index) {
        streams[i] = Walk::through_parts(pair, QuantizedParts::only(linears[i].linear), reference);
      } else if (linears[i].block < index) {
        streams[i] = Walk::through_whole(pair, streams[i]);
      }
    }
    reference = Walk::through_whole(pair, reference);
  });
  const std::vector<double> kl = mean_kl(walk.head(), reference, streams);
  for (std::size_t i = 0; i < linears.size(); ++i) linears[i].kl = kl[i];
  std::stable_sort(linears.begin(), linears.end(), [](const auto& a, const auto& b) { return a.kl > b.kl; });
}

}  // namespace

std::vector<double> mean_kl(const Head& head, const at::Tensor& reference, const std::vector<at::Tensor>& models) {
  const at::Tensor rows = reference.flatten(0, -2);
  std::vector<double> sums(models.size(), 0);
  for (std::int64_t begin = 0; begin < rows.size(0); begin += rows_together) {
    const std::int64_t count = std::min(rows_together, rows.size(0) - begin);
    const at::Tensor expected = logits_of(head, rows.narrow(0, begin, count));
    const std::vector<eval::LogitStats> expected_stats = stats_of(expected);
    for (std::size_t m = 0; m < models.size(); ++m) {
      const at::Tensor logits = logits_of(head, models[m].flatten(0, -2).narrow(0, begin, count));
      const std::vector<eval::LogitStats> stats = stats_of(logits);
      sums[m] += sum_over_rows(count, [&](std::int64_t row) {
        const auto i = static_cast<std::size_t>(row);
        return eval::kl_divergence(row_of(expected, row), expected_stats[i], row_of(logits, row), stats[i]);
      });
    }
  }
  for (double& sum : sums) sum /= static_cast<double>(rows.size(0));
  return sums;
}

double perplexity(const Head& head, const at::Tensor& hidden, const at::Tensor& tokens) {
  double sum = 0;
  std::int64_t predicted = 0;
  for (std::int64_t sequence = 0; sequence < hidden.size(0); ++sequence) {
    const at::Tensor next = tokens[sequence].to(at::kCPU).contiguous();
    for (std::int64_t begin = 0; begin + 1 < hidden.size(1); begin += rows_together) {
      const std::int64_t count = std::min(rows_together, hidden.size(1) - 1 - begin);
      const at::Tensor logits = logits_of(head, hidden[sequence].narrow(0, begin, count));
      const std::vector<eval::LogitStats> stats = stats_of(logits);
      sum += sum_over_rows(count, [&](std::int64_t row) {
        const auto target = static_cast<std::int32_t>(next.data_ptr<std::int64_t>()[begin + row + 1]);
        return eval::negative_log_likelihood(row_of(logits, row), stats[static_cast<std::size_t>(row)], target);
      });
      predicted += count;
    }
  }
  return std::exp(sum / static_cast<double>(predicted));
}

std::vector<LinearDamage> suspects(const std::vector<LayerErrors>& errors, const std::vector<double>& block_kl,
                                   std::size_t most) {
  std::vector<LinearDamage> all;
  for (std::size_t block = 0; block < errors.size(); ++block) {
    double sum = 0;
    for (const LinearError& error : errors[block].linears) sum += error.propagated;
    for (const LinearId linear : all_linears) {
      const double share = errors[block].linears[linear].propagated / sum;
      if (share > 0) all.push_back({static_cast<std::int64_t>(block), linear, share * block_kl[block]});
    }
  }
  std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.kl > b.kl; });
  all.resize(std::min(all.size(), most));
  return all;
}

CheckpointDamage checkpoint_damage(const TransformedModel& whole, const io::QuantizedCheckpoint& quantized,
                                   const at::Tensor& tokens, std::size_t measured_linears) {
  const at::NoGradGuard no_grad;
  Walk walk(whole, quantized, tokens);
  CheckpointDamage damage;
  damage.sequences = tokens.size(0);
  damage.length = tokens.size(1);
  at::Tensor reference = walk.embedded();
  // Parts in this order: kinds, all, then the blocks.
  for (NumberKind& kind : quantized_kinds(quantized.recipe(), walk.blocks())) damage.kinds.push_back({std::move(kind)});
  const std::size_t kinds = damage.kinds.size();
  std::vector<at::Tensor> streams(kinds + 1, reference);
  walk.each_block("blocks", [&](std::int64_t, const BlockPair& pair) {
    for (std::size_t i = kinds + 1; i < streams.size(); ++i) streams[i] = Walk::through_whole(pair, streams[i]);
    for (std::size_t i = 0; i < kinds; ++i)
      streams[i] = Walk::through_parts(pair, damage.kinds[i].kind.parts(), streams[i]);
    streams[kinds] = Walk::through_rounded(pair, streams[kinds]);
    streams.push_back(Walk::through_rounded(pair, reference));
    const std::int64_t few = std::min(reference.size(0), nn::sequences_together(reference.size(1)));
    at::Tensor output;
    damage.errors.push_back(
        layer_errors(pair.whole, pair.rounded, pair.tap, pair.context, reference.narrow(0, 0, few), output));
    reference = Walk::through_whole(pair, reference);
  });
  const std::vector<double> kl = mean_kl(walk.head(), reference, streams);
  for (std::size_t i = 0; i < kinds; ++i) damage.kinds[i].kl = kl[i];
  damage.all = kl[kinds];
  damage.blocks.assign(kl.begin() + static_cast<std::ptrdiff_t>(kinds) + 1, kl.end());
  damage.perplexity = perplexity(walk.head(), reference, tokens);
  damage.quantized_perplexity = perplexity(walk.head(), streams[kinds], tokens);
  streams.clear();
  damage.linears = suspects(damage.errors, damage.blocks, measured_linears);
  measure_linears(walk, damage.linears);
  return damage;
}

}  // namespace pq::quant
