#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/language_model.h"

namespace pq::eval {

/// A token whose likelihood is asked for, and the row of the last run behind which it is to stand.
struct TokenQuery {
  std::int64_t row;
  std::int32_t token;  ///< in the vocabulary
};

struct TokenScore {
  double log_probability =
      0;                ///< log_softmax over the whole vocabulary, right to 2e-6; NaN where a logit is not finite
  bool greedy = false;  ///< the most likely token of all (ties: the lowest id)
};

/// Scores in the order of the queries, which may name a row several times: its logits are computed once. Logits pass in
/// tiles; the result depends neither on the number of threads nor on the other rows.
std::vector<TokenScore> token_scores(LanguageModel& model, std::span<const TokenQuery> queries);

}  // namespace pq::eval
