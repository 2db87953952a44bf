#include "eval/perplexity.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/communicator.h"
#include "base/error.h"
#include "base/log.h"
#include "base/parallel_for.h"
#include "base/phase_timer.h"
#include "base/progress.h"
#include "base/stopwatch.h"
#include "eval/softmax.h"
#include "model/token_range.h"
#include "tokenizer/tokenizer.h"

namespace pq::eval {
namespace {

constexpr std::int64_t tile_bytes = 64 << 20;       // of logits, for each of at most two models at a time
constexpr std::int64_t max_tile_rows = 1024;        // enough for an efficient matrix product
constexpr std::size_t logits_in_a_grain = 1 << 16;  // work that is worth a thread

void check_tokens(const Windows& windows, const ModelSpec& spec) {
  const auto tokens = windows.covered();
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (!in_vocabulary(tokens[i], spec)) {
      throw InputError("text",
                       fmt::format("token id {} at position {} is outside the model's vocabulary of {}", tokens[i], i,
                                   spec.vocab_size),
                       "use the tokenizer that belongs to the model");
    }
  }
}

// Windows that run together. Their rows are those of their tokens, one window after the other.
struct Batch {
  Batch(const Windows& of, std::int64_t first_window, std::int64_t end)
      : windows(of),
        first(first_window),
        count(of.together(first_window, end)),
        length(of[first_window].length),
        tokens(of.tokens(first_window, count)) {}

  std::int64_t window_of(std::int64_t row) const { return first + row / length; }
  std::int64_t position(std::int64_t row) const { return row % length; }
  // Whether what follows the row's token in its window is scored.
  bool scored(std::int64_t row) const {
    const std::int64_t position = row % length;
    return position < length - 1 && position >= length - 1 - windows[window_of(row)].scored;
  }

  const Windows& windows;
  std::int64_t first;
  std::int64_t count;
  std::int64_t length;
  std::vector<std::int32_t> tokens;
};

struct RowRange {
  std::int64_t first;
  std::int64_t count;
};

// All scored rows in ranges of at most `most` rows. A few others among them cost less than a range of their own.
std::vector<RowRange> scored_ranges(const Batch& batch, std::int64_t most) {
  constexpr std::int64_t worth_a_range = 16;
  std::vector<RowRange> ranges;
  for (std::int64_t i = 0; i < batch.count; ++i) {
    const std::int64_t scored = batch.windows[batch.first + i].scored;
    for (std::int64_t row = (i + 1) * batch.length - 1 - scored; row < (i + 1) * batch.length - 1;) {
      const std::int64_t end = (i + 1) * batch.length - 1;
      const bool joined = !ranges.empty() && row - (ranges.back().first + ranges.back().count) < worth_a_range &&
                          row + 1 - ranges.back().first <= most;
      if (!joined) ranges.push_back({row, 0});
      RowRange& range = ranges.back();
      range.count = std::min(end - range.first, most);
      row = range.first + range.count;
    }
  }
  return ranges;
}

// A part of the rows of logits of the batch that ran last, and what the softmax of each needs.
class LogitTile {
 public:
  explicit LogitTile(std::int64_t vocab_size)
      : vocab_(vocab_size), rows_(std::clamp(tile_bytes / 4 / vocab_size, std::int64_t{1}, max_tile_rows)) {}

  std::int64_t max_rows() const { return rows_; }

  void fetch(LanguageModel& model, std::int64_t first, std::int64_t count) {
    logits_.resize(static_cast<std::size_t>(count * vocab_));
    stats_.resize(static_cast<std::size_t>(count));
    model.logits(first, count, logits_);
    for_each_row([this](std::size_t row) { stats_[row] = logit_stats(logits(row)); });
  }

  template <typename Visit>
  void for_each_row(const Visit& visit) const {
    const std::size_t grain = std::max<std::size_t>(1, logits_in_a_grain / static_cast<std::size_t>(vocab_));
    parallel_for(stats_.size(), grain, [&](std::size_t begin, std::size_t end) {
      for (std::size_t row = begin; row < end; ++row) visit(row);
    });
  }

  std::span<const float> logits(std::size_t row) const {
    return std::span(logits_).subspan(row * static_cast<std::size_t>(vocab_), static_cast<std::size_t>(vocab_));
  }
  const LogitStats& stats(std::size_t row) const { return stats_[row]; }

 private:
  std::int64_t vocab_;
  std::int64_t rows_;
  std::vector<float> logits_;
  std::vector<LogitStats> stats_;
};

struct RowScore {
  double nll;
  double kl_divergence;
  bool same_top1;
};

// What one model has scored so far.
struct Scores {
  double window_nll = 0;    // of the window under way
  double sum_of_means = 0;  // over the finished windows, weighted
  double kl_divergence = 0;
  std::int64_t agreements = 0;
  double seconds = 0;
};

// A NaN or an infinity in a row that predicts something is a broken model, not a number to average.
[[noreturn]] void throw_not_finite(std::string_view who, const LogitTile& tile, std::size_t row, std::int64_t chunk,
                                   std::int64_t position) {
  const auto logits = tile.logits(row);
  const auto bad = std::find_if_not(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); });
  throw FormatError(who,
                    fmt::format("the logit of token {} is {} in chunk {}, after its token {}", bad - logits.begin(),
                                bad != logits.end() ? *bad : 0.0F, chunk, position),
                    overflow_remedy);
}

// Adds the rows of a range of the batch, in order, so that sums never depend on how rows were shared between threads,
// tiles or batches. `reference` is null without one.
void add_tile(Scores& scores, std::string_view who, const LogitTile& tile, const LogitTile* reference,
              const Batch& batch, const RowRange& range) {
  std::vector<RowScore> rows(static_cast<std::size_t>(range.count));
  tile.for_each_row([&](std::size_t row) {
    const LogitStats& stats = tile.stats(row);
    const std::int64_t of_batch = range.first + static_cast<std::int64_t>(row);
    if (!batch.scored(of_batch) || !stats.finite) return;
    const std::int32_t target = batch.tokens[static_cast<std::size_t>(of_batch) + 1];
    rows[row].nll = negative_log_likelihood(tile.logits(row), stats, target);
    if (reference == nullptr) return;
    const auto expected = reference->logits(row);
    const LogitStats& expected_stats = reference->stats(row);
    if (!expected_stats.finite) return;
    rows[row].kl_divergence = kl_divergence(expected, expected_stats, tile.logits(row), stats);
    rows[row].same_top1 = first_index_of(expected, expected_stats.max) == first_index_of(tile.logits(row), stats.max);
  });
  for (std::size_t row = 0; row < rows.size(); ++row) {
    const std::int64_t of_batch = range.first + static_cast<std::int64_t>(row);
    if (!batch.scored(of_batch)) continue;
    const std::int64_t position = batch.position(of_batch);
    const std::int64_t window = batch.window_of(of_batch);
    if (reference != nullptr && !reference->stats(row).finite) {
      throw_not_finite("logits of the reference", *reference, row, window, position);
    }
    if (!tile.stats(row).finite) throw_not_finite(who, tile, row, window, position);
    scores.window_nll += rows[row].nll;
    scores.kl_divergence += rows[row].kl_divergence;
    scores.agreements += rows[row].same_top1 ? 1 : 0;
    if (position < batch.length - 2) continue;
    const Window& finished = batch.windows[window];
    scores.sum_of_means += finished.weight * scores.window_nll / static_cast<double>(finished.scored);
    scores.window_nll = 0;
  }
}

void warn_beyond_context(const LanguageModel& model, std::int64_t length) {
  const std::int64_t context = model.spec().max_positions;
  if (context > 0 && length > context) {
    log_warning("chunks of {} tokens are longer than the model's context of {}", length, context);
  }
}

// Every rank has scored its own windows.
void add_over_ranks(std::vector<Scores>& scores) {
  Communicator& world = Communicator::world();
  for (Scores& s : scores) {
    std::array<double, 2> sums{s.sum_of_means, s.kl_divergence};
    world.sum(std::span<double>(sums));
    s.sum_of_means = sums[0];
    s.kl_divergence = sums[1];
    world.sum(std::span(&s.agreements, 1));
    world.max(std::span(&s.seconds, 1));
  }
}

// The one pass behind both public functions: scores of `models`, against `reference` unless that is null.
std::vector<Scores> score(LanguageModel* reference, std::span<LanguageModel* const> models, const Windows& windows) {
  std::vector<Scores> scores(models.size());
  const std::int64_t vocab_size = (reference != nullptr ? *reference : *models[0]).spec().vocab_size;
  LogitTile tile(vocab_size);
  LogitTile reference_tile(vocab_size);
  const auto own = Communicator::world().share(static_cast<std::size_t>(windows.count()));
  const auto end = static_cast<std::int64_t>(own.end);
  const PhaseTimer timer("evaluate");
  Progress progress("evaluate", own.size());
  double reference_seconds = 0;
  for (auto window = static_cast<std::int64_t>(own.begin); window < end;) {
    const Batch batch(windows, window, end);
    if (reference != nullptr) {
      const Stopwatch watch;
      reference->run(batch.tokens, batch.count);
      reference_seconds += watch.seconds();
    }
    for (std::size_t m = 0; m < models.size(); ++m) {
      if (models[m] == reference) continue;
      const Stopwatch watch;
      models[m]->run(batch.tokens, batch.count);
      scores[m].seconds += watch.seconds();
    }
    for (const RowRange& range : scored_ranges(batch, tile.max_rows())) {
      if (reference != nullptr) {
        const Stopwatch watch;
        reference_tile.fetch(*reference, range.first, range.count);
        reference_seconds += watch.seconds();
      }
      for (std::size_t m = 0; m < models.size(); ++m) {
        const Stopwatch watch;
        const bool is_reference = models[m] == reference;
        if (!is_reference) tile.fetch(*models[m], range.first, range.count);
        const std::string who = models.size() == 1 ? "logits" : fmt::format("logits of model {}", m);
        add_tile(scores[m], who, is_reference ? reference_tile : tile, reference != nullptr ? &reference_tile : nullptr,
                 batch, range);
        scores[m].seconds += watch.seconds();
      }
    }
    window += batch.count;
    progress.advance(static_cast<std::size_t>(batch.count));
  }
  for (std::size_t m = 0; m < models.size(); ++m) {
    if (models[m] == reference) scores[m].seconds += reference_seconds;
  }
  add_over_ranks(scores);
  return scores;
}

void fill(PerplexityResult& result, const Scores& scores, const Windows& windows) {
  result.mean_nll = scores.sum_of_means / windows.weight();
  result.perplexity = std::exp(result.mean_nll);
  result.chunks = windows.count();
  result.tokens = windows.scored();
  result.seconds = scores.seconds;
}

}  // namespace

std::vector<std::int32_t> tokenize_text(const Tokenizer& tokenizer, std::string_view text) {
  return tokenizer.encode(text, true);
}

std::string join_wikitext(std::string_view text) {
  std::string joined;
  joined.reserve(text.size() + text.size() / 8);
  for (std::size_t start = 0; start < text.size();) {
    const std::size_t newline = text.find('\n', start);
    const std::size_t end = newline == std::string_view::npos ? text.size() : newline + 1;
    const std::string_view row = text.substr(start, end - start);
    if (start > 0) joined += "\n\n";
    if (row.find_first_not_of(" \t\r\n\v\f") != std::string_view::npos) joined += row;
    start = end;
  }
  return joined;
}

PerplexityResult perplexity(LanguageModel& model, std::span<const std::int32_t> stream,
                            const PerplexityOptions& options) {
  const Windows windows(stream, options);
  check_tokens(windows, model.spec());
  warn_beyond_context(model, windows[0].length);
  LanguageModel* const models[] = {&model};
  PerplexityResult result;
  fill(result, score(nullptr, models, windows)[0], windows);
  return result;
}

std::vector<ComparisonResult> compare_models(LanguageModel& reference, std::span<LanguageModel* const> models,
                                             std::span<const std::int32_t> stream, const PerplexityOptions& options) {
  const Windows windows(stream, options);
  const std::int64_t vocab_size = reference.spec().vocab_size;
  for (std::size_t m = 0; m < models.size(); ++m) {
    if (models[m]->spec().vocab_size != vocab_size) {
      throw InputError(
          fmt::format("model {}", m),
          fmt::format("its vocabulary has {} tokens, the reference's {}", models[m]->spec().vocab_size, vocab_size),
          "compare models that share a tokenizer");
    }
  }
  check_tokens(windows, reference.spec());
  warn_beyond_context(reference, windows[0].length);
  std::vector<ComparisonResult> results(models.size());
  if (models.empty()) return results;
  const std::vector<Scores> scores = score(&reference, models, windows);
  for (std::size_t m = 0; m < models.size(); ++m) {
    fill(results[m], scores[m], windows);
    const auto positions = static_cast<double>(results[m].tokens);
    results[m].kl_divergence = scores[m].kl_divergence / positions;
    results[m].top1_agreement = static_cast<double>(scores[m].agreements) / positions;
  }
  return results;
}

}  // namespace pq::eval
