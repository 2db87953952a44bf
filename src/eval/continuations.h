#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/json.h"

namespace pq::eval {

/// What a model wrote behind a prompt.
struct Continuation {
  std::vector<std::int32_t> tokens;  ///< without the one that ended it
  bool ended = false;                ///< by a token that ends a text, not by the limit
};

/// How a set of continuations repeats itself. A measure that needs longer ones than there are is NaN.
struct ContinuationStatistics {
  /// rep-2, rep-3, rep-4 (Welleck et al., arXiv:1908.04319; Su et al., arXiv:2202.06417): the share of a continuation's
  /// n-grams that it has had before, 1 - distinct / all, mean over the continuations of n tokens or more.
  std::array<double, 3> repetition{};
  /// distinct-1, -2, -3 (Li et al., arXiv:1510.03055): distinct n-grams of all continuations together over all of them.
  std::array<double, 3> distinct{};
  double mean_length = 0;  ///< tokens
  double ended_share = 0;
};
ContinuationStatistics continuation_statistics(std::span<const Continuation> continuations);

/// Greedy continuations of the same prompts by two models. That a text ends counts as a token.
struct ContinuationAgreement {
  double identical_share = 0;   ///< of the prompts
  double until_divergence = 0;  ///< share of the reference's tokens that come before the first difference
  double mean_agreed = 0;       ///< tokens before the first difference, mean over prompts
  double same_positions = 0;    ///< share of the reference's tokens that are the same at the same position
};
/// The spans are of equal size. Shares of tokens are over the tokens of all prompts.
ContinuationAgreement continuation_agreement(std::span<const Continuation> model,
                                             std::span<const Continuation> reference);

/// "repetition_2" and so on, as docs/json.md lists them.
Json to_json(const ContinuationStatistics& statistics);
Json to_json(const ContinuationAgreement& agreement);

}  // namespace pq::eval
