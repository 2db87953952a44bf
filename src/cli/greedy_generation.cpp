#include "cli/greedy_generation.h"

#include <algorithm>
#include <utility>

#include "base/communicator.h"
#include "base/progress.h"
#include "generation/sampler.h"
#include "generation/text_generation.h"
#include "numerics/outlier_tokens.h"
#include "runtime/down_product_maxima.h"
#include "runtime/session.h"

namespace pq::cli {
namespace {

using Tokens = std::vector<std::int32_t>;

constexpr std::size_t sessions_together = 16;

}  // namespace

GreedyGenerator::GreedyGenerator(std::shared_ptr<const runtime::Model> model, std::int64_t max_tokens,
                                 const Tokenizer& tokenizer)
    : model_(std::move(model)),
      max_tokens_(max_tokens),
      ends_(end_tokens(model_->spec().eos_token_ids, model_->spec().vocab_size, tokenizer)) {}

std::vector<eval::Continuation> GreedyGenerator::continue_all(std::span<const Tokens> prompts) const {
  std::vector<eval::Continuation> all(prompts.size());
  const auto own = Communicator::world().share(prompts.size());
  Progress progress("generate", own.size());
  for (std::size_t begin = own.begin; begin < own.end; begin += sessions_together) {
    const std::size_t count = std::min(sessions_together, own.end - begin);
    continue_together(prompts.subspan(begin, count), std::span(all).subspan(begin, count));
    progress.advance(count);
  }
  gather(all);
  return all;
}

GeneratedOutliers GreedyGenerator::find_outliers(std::span<const Tokens> prompts,
                                                 std::span<const eval::Continuation> continuations,
                                                 const PrefixSettings& settings) const {
  const auto own = Communicator::world().share(prompts.size());
  Progress progress("find outliers", own.size());
  std::vector<std::int64_t> counts(static_cast<std::size_t>(model_->spec().vocab_size));
  GeneratedOutliers found;
  for (std::size_t i = own.begin; i < own.end; ++i) {
    Tokens sequence = prompts[i];
    sequence.insert(sequence.end(), continuations[i].tokens.begin(), continuations[i].tokens.end());
    std::set<std::size_t> outliers;
    for (const std::vector<float>& maxima : runtime::down_product_maxima(*model_, sequence)) {
      const SequenceOutliers of_block =
          find_outlier_tokens(maxima, settings.upper_threshold, settings.lower_threshold, [&](std::size_t token) {
            if (token >= prompts[i].size()) outliers.insert(token);
          });
      if (of_block.median <= 0) continue;
      for (const float largest : std::span(maxima).subspan(prompts[i].size())) {
        found.max_ratio = std::max(found.max_ratio, largest / of_block.median);
      }
    }
    for (const std::size_t token : outliers) ++counts[static_cast<std::size_t>(sequence[token])];
    found.generated += static_cast<std::int64_t>(continuations[i].tokens.size());
    progress.advance();
  }
  Communicator& world = Communicator::world();
  world.sum(std::span(counts));
  world.sum(std::span(&found.generated, 1));
  world.max(std::span(&found.max_ratio, 1));
  for (std::size_t id = 0; id < counts.size(); ++id) {
    if (counts[id] == 0) continue;
    found.by_id[static_cast<std::int32_t>(id)] = counts[id];
    found.tokens += counts[id];
  }
  return found;
}

void GreedyGenerator::continue_together(std::span<const Tokens> prompts, std::span<eval::Continuation> out) const {
  std::vector<runtime::Session> sessions;
  std::vector<runtime::SessionTokens> batch;
  std::vector<std::size_t> open;
  sessions.reserve(prompts.size());
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    sessions.emplace_back(model_, static_cast<std::int64_t>(prompts[i].size()) + max_tokens_);
    batch.push_back({&sessions.back(), prompts[i]});
    open.push_back(i);
  }
  Sampler greedy({});
  while (!batch.empty()) {
    append_batch(batch);
    batch.clear();
    std::erase_if(open, [&](std::size_t i) {
      eval::Continuation& text = out[i];
      const std::int32_t next = greedy.sample(sessions[i].logits());
      text.ended = ends_.contains(next);
      if (!text.ended) text.tokens.push_back(next);
      return text.ended || static_cast<std::int64_t>(text.tokens.size()) == max_tokens_;
    });
    for (const std::size_t i : open) batch.push_back({&sessions[i], std::span(out[i].tokens).last(1)});
  }
}

/// Every rank has those of its own prompts, the others' are empty.
void GreedyGenerator::gather(std::vector<eval::Continuation>& all) const {
  if (Communicator::world().size() == 1) return;
  const auto width = static_cast<std::size_t>(max_tokens_) + 2;
  std::vector<std::int64_t> table(all.size() * width);
  for (std::size_t i = 0; i < all.size(); ++i) {
    std::int64_t* row = table.data() + i * width;
    row[0] = static_cast<std::int64_t>(all[i].tokens.size());
    row[1] = all[i].ended ? 1 : 0;
    std::copy(all[i].tokens.begin(), all[i].tokens.end(), row + 2);
  }
  Communicator::world().sum(std::span(table));
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::int64_t* row = table.data() + i * width;
    all[i].ended = row[1] != 0;
    all[i].tokens.assign(row + 2, row + 2 + row[0]);
  }
}

}  // namespace pq::cli
