#include "generation/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace pq {
namespace {

void require(bool holds, std::string_view flag, double value, std::string_view allowed) {
  if (!holds) throw InputError(flag, fmt::format("{} is out of range", value), allowed);
}

/// Which of the two took the scores beyond numbers.
[[noreturn]] void refuse_scores(std::span<const float> logits, const SamplingOptions& options) {
  if (std::all_of(logits.begin(), logits.end(), [](float x) { return x < std::numeric_limits<float>::infinity(); })) {
    throw InputError("--repetition-penalty",
                     fmt::format("{} takes logits beyond the range of float32", options.repetition_penalty),
                     "choose one nearer to 1");
  }
  throw InputError(
      "sampling", "the model's logits are not finite numbers",
      "weights or scales so large that float32 overflows on the way: pq verify shows the stage; quantize the "
      "model again, or get another copy of it");
}

/// The order of the choices: likeliest first, of equally likely ones the lowest id.
constexpr auto before = [](const auto& a, const auto& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
};

}  // namespace

void SamplingOptions::validate() const {
  require(std::isfinite(temperature) && temperature >= 0, "--temperature", temperature, "choose 0 (greedy) or more");
  require(top_k >= 0, "--top-k", static_cast<double>(top_k), "choose 0 (off) or more");
  require(top_p > 0 && top_p <= 1, "--top-p", top_p, "choose more than 0 and at most 1 (off)");
  require(min_p >= 0 && min_p <= 1, "--min-p", min_p, "choose at least 0 (off) and at most 1");
  const auto penalty = static_cast<float>(repetition_penalty);
  require(penalty > 0 && std::isfinite(penalty), "--repetition-penalty", repetition_penalty,
          "choose more than 0; 1 is off");
  require(repetition_window >= 0, "--repetition-window", static_cast<double>(repetition_window),
          "choose 0 (the whole text) or more");
}

Sampler::Sampler(const SamplingOptions& options) : options_(options), random_(options.seed, "sampler") {
  options_.validate();
  if (options_.temperature > 0) inverse_temperature_ = std::min(1 / options_.temperature, 1e38);
}

void Sampler::accept(std::int32_t token) {
  if (options_.repetition_penalty == 1.0) return;
  ++counts_[token];
  if (options_.repetition_window == 0) return;
  recent_.push_back(token);
  if (static_cast<std::int64_t>(recent_.size()) <= options_.repetition_window) return;
  const auto oldest = counts_.find(recent_.front());
  if (--oldest->second == 0) counts_.erase(oldest);
  recent_.pop_front();
}

void Sampler::accept(std::span<const std::int32_t> tokens) {
  for (const std::int32_t token : tokens) accept(token);
}

void Sampler::load(std::span<const float> logits) {
  scores_.assign(logits.begin(), logits.end());
  const auto penalty = static_cast<float>(options_.repetition_penalty);
  for (const auto& [token, count] : counts_) {
    if (token < 0 || static_cast<std::size_t>(token) >= scores_.size()) continue;
    float& score = scores_[static_cast<std::size_t>(token)];
    score = score > 0 ? score / penalty : score * penalty;
  }
  constexpr float infinity = std::numeric_limits<float>::infinity();
  max_score_ = -infinity;
  bool is_bad = false;
  for (const float score : scores_) {
    is_bad |= !(score < infinity);
    max_score_ = std::max(max_score_, score);
  }
  if (is_bad) refuse_scores(logits, options_);
  if (max_score_ == -infinity)
    throw InputError("sampling", "every token is ruled out", "use a smaller --repetition-penalty");
  best_ = static_cast<std::int32_t>(std::find(scores_.begin(), scores_.end(), max_score_) - scores_.begin());
}

/// exp((logit - maximum) / temperature): 1 for the likeliest. What is below exp(-200) is 0 in float32 anyway.
float Sampler::weight(float logit) const {
  const double exponent = (static_cast<double>(logit) - static_cast<double>(max_score_)) * inverse_temperature_;
  return std::exp(static_cast<float>(std::max(exponent, -200.0)));
}

/// The `count` likeliest tokens, in order, in one pass: a buffer of candidates that is cut down whenever it is full.
void Sampler::take_top(std::size_t count) {
  candidates_.clear();
  const std::size_t room = std::max<std::size_t>(2 * count, 1024);
  float threshold = -std::numeric_limits<float>::infinity();
  for (std::size_t i = 0; i < scores_.size(); ++i) {
    if (!(scores_[i] > threshold)) continue;  // an equal one with a higher id comes later in the order
    candidates_.push_back({scores_[i], static_cast<std::int32_t>(i)});
    if (candidates_.size() < room) continue;
    const auto last = candidates_.begin() + static_cast<std::ptrdiff_t>(count) - 1;
    std::nth_element(candidates_.begin(), last, candidates_.end(), before);
    threshold = last->logit;
    candidates_.resize(count);
  }
  std::sort(candidates_.begin(), candidates_.end(), before);
  if (candidates_.size() > count) candidates_.resize(count);
}

void Sampler::take_all() {
  candidates_.clear();
  for (std::size_t i = 0; i < scores_.size(); ++i) candidates_.push_back({scores_[i], static_cast<std::int32_t>(i)});
}

/// Shortens sorted candidates to the first that have `mass` together; false when all of them have less.
bool Sampler::cut_at(double mass) {
  double sum = 0;
  for (std::size_t i = 0; i < candidates_.size(); ++i) {
    sum += static_cast<double>(weight(candidates_[i].logit));
    if (sum < mass) continue;
    candidates_.resize(i + 1);
    return true;
  }
  return false;
}

void Sampler::keep_top_p() {
  double total = 0;
  if (options_.top_k > 0) {
    for (const Candidate& candidate : candidates_) total += static_cast<double>(weight(candidate.logit));
    cut_at(options_.top_p * total);
    return;
  }
  for (const float score : scores_) total += static_cast<double>(weight(score));
  const double mass = options_.top_p * total;
  take_top(std::min<std::size_t>(256, scores_.size()));  // enough for most texts
  if (cut_at(mass)) return;
  take_all();
  // Bisects for the place of the cut without sorting what lies behind it.
  auto begin = candidates_.begin();
  auto end = candidates_.end();
  double before_begin = 0;
  while (end - begin > 64) {
    const auto middle = begin + (end - begin) / 2;
    std::nth_element(begin, middle, end, before);
    double half = 0;
    for (auto at = begin; at != middle; ++at) half += static_cast<double>(weight(at->logit));
    if (before_begin + half >= mass) {
      end = middle;
    } else {
      before_begin += half;
      begin = middle;
    }
  }
  std::sort(begin, end, before);
  for (double sum = before_begin; end - begin > 1; ++begin) {
    sum += static_cast<double>(weight(begin->logit));
    if (sum >= mass) break;
  }
  const Candidate last = *begin;
  take_all();
  std::erase_if(candidates_, [&](const Candidate& candidate) { return before(last, candidate); });
}

void Sampler::keep_min_p() {
  const auto too_unlikely = [&](const Candidate& c) { return static_cast<double>(weight(c.logit)) < options_.min_p; };
  std::erase_if(candidates_, too_unlikely);
}

const std::vector<Sampler::Choice>& Sampler::distribution(std::span<const float> logits) {
  load(logits);
  choices_.clear();
  if (options_.temperature == 0) {
    choices_.push_back({best_, 1.0F});
    return choices_;
  }
  const bool is_cut = options_.top_k > 0 || options_.top_p < 1;
  if (options_.top_k > 0)
    take_top(static_cast<std::size_t>(std::min(options_.top_k, static_cast<std::int64_t>(scores_.size()))));
  if (options_.top_p < 1) keep_top_p();
  if (!is_cut) take_all();
  if (options_.min_p > 0) keep_min_p();
  double total = 0;
  for (const Candidate& candidate : candidates_) {
    const float share = weight(candidate.logit);
    if (share == 0) continue;
    choices_.push_back({candidate.id, share});
    total += static_cast<double>(share);
  }
  for (Choice& choice : choices_)
    choice.probability = static_cast<float>(static_cast<double>(choice.probability) / total);
  return choices_;
}

std::int32_t Sampler::sample(std::span<const float> logits) {
  const std::vector<Choice>& choices = distribution(logits);
  if (options_.temperature == 0) return choices.front().id;
  double total = 0;
  for (const Choice& choice : choices) total += static_cast<double>(choice.probability);
  double rest = random_.uniform() * total;
  for (const Choice& choice : choices) {
    rest -= static_cast<double>(choice.probability);
    if (rest < 0) return choice.id;
  }
  return choices.back().id;  // rounding
}

}  // namespace pq
