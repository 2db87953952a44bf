#include "eval/continuations.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"

namespace pq::eval {
namespace {

TEST(Continuations, RepetitionIsTheShareOfNgramsHadBefore) {
  // a b a b a: 2-grams ab ba ab ba (2 of 4 new), 3-grams aba bab aba (2 of 3), 4-grams abab baba (2 of 2).
  const std::vector<Continuation> loop{{{1, 2, 1, 2, 1}, false}};
  const ContinuationStatistics of_loop = continuation_statistics(loop);
  EXPECT_DOUBLE_EQ(of_loop.repetition[0], 0.5);
  EXPECT_DOUBLE_EQ(of_loop.repetition[1], 1.0 / 3);
  EXPECT_DOUBLE_EQ(of_loop.repetition[2], 0);
  EXPECT_DOUBLE_EQ(of_loop.distinct[0], 0.4);
  EXPECT_DOUBLE_EQ(of_loop.distinct[1], 0.5);

  // One token for ever: of 97 4-grams one is new.
  const std::vector<Continuation> stuck{{std::vector<std::int32_t>(100, 7), false}};
  EXPECT_DOUBLE_EQ(continuation_statistics(stuck).repetition[2], 96.0 / 97);
  EXPECT_DOUBLE_EQ(continuation_statistics(stuck).distinct[0], 0.01);
}

TEST(Continuations, RepetitionIsWithinAContinuationAndDistinctOverAll) {
  // Twice the same text without a repetition of its own; the third is too short for a 4-gram and does not count there.
  const std::vector<Continuation> twins{{{1, 2, 3, 4, 5}, true}, {{1, 2, 3, 4, 5}, false}, {{9}, true}};
  const ContinuationStatistics statistics = continuation_statistics(twins);
  EXPECT_DOUBLE_EQ(statistics.repetition[2], 0);
  EXPECT_DOUBLE_EQ(statistics.distinct[0], 6.0 / 11);
  EXPECT_DOUBLE_EQ(statistics.distinct[2], 0.5);
  EXPECT_DOUBLE_EQ(statistics.mean_length, 11.0 / 3);
  EXPECT_DOUBLE_EQ(statistics.ended_share, 2.0 / 3);
  const std::vector<Continuation> nothing{{{}, true}};
  EXPECT_TRUE(std::isnan(continuation_statistics(nothing).repetition[0]));
  EXPECT_TRUE(std::isnan(continuation_statistics(nothing).distinct[0]));
  EXPECT_EQ(continuation_statistics(nothing).mean_length, 0);
}

TEST(Continuations, AgreeUntilTheFirstDifference) {
  const std::vector<Continuation> reference{{{1, 2, 3, 4}, false}, {{5, 6}, true}, {{7, 8, 9}, false}};
  const ContinuationAgreement same = continuation_agreement(reference, reference);
  EXPECT_EQ(same.identical_share, 1);
  EXPECT_EQ(same.until_divergence, 1);
  EXPECT_EQ(same.same_positions, 1);
  EXPECT_DOUBLE_EQ(same.mean_agreed, 10.0 / 3);

  // The first goes on alike after one difference, the second does not end where the reference does, the third is equal.
  const std::vector<Continuation> model{{{1, 0, 3, 4}, false}, {{5, 6, 6, 6}, false}, {{7, 8, 9}, false}};
  const ContinuationAgreement agreement = continuation_agreement(model, reference);
  EXPECT_DOUBLE_EQ(agreement.identical_share, 1.0 / 3);
  EXPECT_DOUBLE_EQ(agreement.until_divergence, 6.0 / 10);
  EXPECT_DOUBLE_EQ(agreement.mean_agreed, 2);
  EXPECT_DOUBLE_EQ(agreement.same_positions, 8.0 / 10);
  // One that ends early has lost the rest, and an end in the wrong place is a difference.
  const std::vector<Continuation> early{{{1, 2}, true}, {{5, 6}, true}, {{7, 8, 9}, true}};
  EXPECT_DOUBLE_EQ(continuation_agreement(early, reference).until_divergence, 8.0 / 10);
  EXPECT_DOUBLE_EQ(continuation_agreement(early, reference).identical_share, 1.0 / 3);
  EXPECT_THROW(continuation_agreement(model, std::span(reference).first(2)), InputError);
}

TEST(Continuations, JsonNamesTheMeasures) {
  const std::vector<Continuation> loop{{{1, 2, 1, 2, 1}, false}};
  EXPECT_EQ(to_json(continuation_statistics(loop)).dump(),
            R"({"repetition_2":0.5,"repetition_3":0.33333333333333337,"repetition_4":0.0,"distinct_1":0.4,)"
            R"("distinct_2":0.5,"distinct_3":0.6666666666666666,"mean_length":5.0,"ended_share":0.0})");
  EXPECT_EQ(to_json(continuation_agreement(loop, loop)).dump(),
            R"({"identical_share":1.0,"until_divergence":1.0,"mean_agreed_tokens":5.0,"same_positions":1.0})");
}

}  // namespace
}  // namespace pq::eval
