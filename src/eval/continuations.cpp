#include "eval/continuations.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "base/error.h"

namespace pq::eval {
namespace {

using Ngrams = std::set<std::vector<std::int32_t>>;

/// Puts the n-grams of `tokens` into `seen`; returns how many there are, repeated ones counted each time.
std::int64_t add_ngrams(const std::vector<std::int32_t>& tokens, std::size_t n, Ngrams& seen) {
  if (tokens.size() < n) return 0;
  const std::size_t count = tokens.size() - n + 1;
  for (std::size_t i = 0; i < count; ++i) {
    const auto from = tokens.begin() + static_cast<std::ptrdiff_t>(i);
    seen.emplace(from, from + static_cast<std::ptrdiff_t>(n));
  }
  return static_cast<std::int64_t>(count);
}

double ratio(double part, double whole) { return whole > 0 ? part / whole : std::numeric_limits<double>::quiet_NaN(); }

double repetition(std::span<const Continuation> continuations, std::size_t n) {
  double sum = 0;
  double long_enough = 0;
  for (const Continuation& one : continuations) {
    Ngrams seen;
    const std::int64_t count = add_ngrams(one.tokens, n, seen);
    if (count == 0) continue;
    sum += 1 - static_cast<double>(seen.size()) / static_cast<double>(count);
    ++long_enough;
  }
  return ratio(sum, long_enough);
}

double distinct(std::span<const Continuation> continuations, std::size_t n) {
  Ngrams seen;
  std::int64_t count = 0;
  for (const Continuation& one : continuations) count += add_ngrams(one.tokens, n, seen);
  return ratio(static_cast<double>(seen.size()), static_cast<double>(count));
}

constexpr std::int32_t end_of_text = -1;

std::vector<std::int32_t> with_end(const Continuation& one) {
  std::vector<std::int32_t> tokens = one.tokens;
  if (one.ended) tokens.push_back(end_of_text);
  return tokens;
}

}  // namespace

ContinuationStatistics continuation_statistics(std::span<const Continuation> continuations) {
  ContinuationStatistics statistics;
  for (std::size_t i = 0; i < 3; ++i) {
    statistics.repetition[i] = repetition(continuations, i + 2);
    statistics.distinct[i] = distinct(continuations, i + 1);
  }
  double tokens = 0;
  double ended = 0;
  for (const Continuation& one : continuations) {
    tokens += static_cast<double>(one.tokens.size());
    ended += one.ended ? 1 : 0;
  }
  const auto count = static_cast<double>(continuations.size());
  statistics.mean_length = ratio(tokens, count);
  statistics.ended_share = ratio(ended, count);
  return statistics;
}

ContinuationAgreement continuation_agreement(std::span<const Continuation> model,
                                             std::span<const Continuation> reference) {
  if (model.size() != reference.size()) {
    throw InputError("continuations", fmt::format("{} of one model, {} of the other", model.size(), reference.size()));
  }
  double identical = 0;
  double agreed = 0;
  double same = 0;
  double all = 0;
  for (std::size_t i = 0; i < model.size(); ++i) {
    const std::vector<std::int32_t> ours = with_end(model[i]);
    const std::vector<std::int32_t> theirs = with_end(reference[i]);
    const auto differ = std::mismatch(theirs.begin(), theirs.end(), ours.begin(), ours.end());
    identical += differ.first == theirs.end() && differ.second == ours.end() ? 1 : 0;
    agreed += static_cast<double>(differ.first - theirs.begin());
    for (std::size_t at = 0; at < std::min(ours.size(), theirs.size()); ++at) same += ours[at] == theirs[at] ? 1 : 0;
    all += static_cast<double>(theirs.size());
  }
  const auto prompts = static_cast<double>(model.size());
  return {ratio(identical, prompts), ratio(agreed, all), ratio(agreed, prompts), ratio(same, all)};
}

Json to_json(const ContinuationStatistics& statistics) {
  Json json = Json::object();
  for (std::size_t i = 0; i < 3; ++i) json[fmt::format("repetition_{}", i + 2)] = statistics.repetition[i];
  for (std::size_t i = 0; i < 3; ++i) json[fmt::format("distinct_{}", i + 1)] = statistics.distinct[i];
  json["mean_length"] = statistics.mean_length;
  json["ended_share"] = statistics.ended_share;
  return json;
}

Json to_json(const ContinuationAgreement& agreement) {
  return {{"identical_share", agreement.identical_share},
          {"until_divergence", agreement.until_divergence},
          {"mean_agreed_tokens", agreement.mean_agreed},
          {"same_positions", agreement.same_positions}};
}

}  // namespace pq::eval
