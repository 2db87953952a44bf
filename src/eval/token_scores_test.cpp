#include "eval/token_scores.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "base/parallel_for.h"
#include "eval/bigram_model_for_test.h"

namespace pq::eval {
namespace {

constexpr std::int64_t vocab = 1300;  // two tiles and a part of one

/// Every row of a run of some tokens, several targets each, not in order.
std::vector<TokenQuery> some_queries() {
  std::vector<TokenQuery> queries;
  for (const std::int64_t row : {4, 0, 2, 2, 5, 4}) {
    for (const std::int32_t token : {0, 511, 512, 1023, 1024, 1299}) queries.push_back({row, token});
  }
  return queries;
}

TEST(TokenScores, AreLogProbabilitiesOfTheWholeVocabulary) {
  BigramModel model(vocab, 3);
  const std::vector<std::int32_t> tokens{7, 3, 1299, 512, 0, 44};
  model.run(tokens, 1);
  const auto queries = some_queries();
  const auto scores = token_scores(model, queries);
  ASSERT_EQ(scores.size(), queries.size());
  for (std::size_t i = 0; i < queries.size(); ++i) {
    const auto expected = model.log_probabilities(tokens[static_cast<std::size_t>(queries[i].row)]);
    EXPECT_NEAR(scores[i].log_probability, static_cast<double>(expected[static_cast<std::size_t>(queries[i].token)]),
                2e-6);
    EXPECT_EQ(scores[i].greedy, model.top1(tokens[static_cast<std::size_t>(queries[i].row)]) == queries[i].token);
  }
}

TEST(TokenScores, KnowTheLowestIdOfEqualLogits) {
  BigramModel model(vocab, 3);
  model.logit(7, 600) = model.logit(7, 620) = model.logit(7, 1200) = 50;
  model.logit(8, 100) = model.logit(8, 1200) = 50;
  model.run(std::vector<std::int32_t>{7, 8}, 1);
  const std::vector<TokenQuery> queries{{0, 600}, {0, 620}, {0, 1200}, {1, 100}, {1, 1200}};
  const auto scores = token_scores(model, queries);
  const std::vector<bool> expected{true, false, false, true, false};
  for (std::size_t i = 0; i < queries.size(); ++i) EXPECT_EQ(scores[i].greedy, expected[i]) << i;
}

TEST(TokenScores, AreTheSameBitsOnAnyNumberOfThreadsAndBesideAnyRows) {
  BigramModel model(vocab, 3);
  model.run(std::vector<std::int32_t>{7, 3, 1299, 512, 0, 44}, 1);
  const auto queries = some_queries();
  set_thread_count(1);
  const auto one = token_scores(model, queries);
  set_thread_count(3);
  const auto three = token_scores(model, queries);
  set_thread_count(0);
  for (std::size_t i = 0; i < queries.size(); ++i) {
    EXPECT_EQ(one[i].log_probability, three[i].log_probability);
    EXPECT_EQ(one[i].log_probability, token_scores(model, {&queries[i], 1})[0].log_probability);
  }
}

TEST(TokenScores, OfLogitsThatAreNotFiniteAreNotANumber) {
  BigramModel model(vocab, 3);
  model.logit(7, 700) = std::numeric_limits<float>::quiet_NaN();
  model.run(std::vector<std::int32_t>{7, 8}, 1);
  const auto scores = token_scores(model, std::vector<TokenQuery>{{0, 5}, {1, 5}});
  EXPECT_TRUE(std::isnan(scores[0].log_probability));
  EXPECT_FALSE(std::isnan(scores[1].log_probability));
}

}  // namespace
}  // namespace pq::eval
