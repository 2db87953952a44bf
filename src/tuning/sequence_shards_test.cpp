#include "tuning/sequence_shards.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "base/error.h"

namespace pq::quant {
namespace {

using ::testing::HasSubstr;

struct Shape {
  std::int64_t tuning;
  std::int64_t validation;
  std::int64_t batch;
};
// Whole batches, a last one that is short, fewer sequences than a batch, one a batch, nothing held back.
const std::vector<Shape> shapes{{16, 4, 4}, {18, 3, 4}, {3, 2, 4}, {5, 0, 1}, {7, 0, 4}, {1, 1, 4}, {0, 0, 4}};

std::vector<SequenceShards> of_all(const Shape& shape, int ranks) {
  std::vector<SequenceShards> result;
  for (int rank = 0; rank < ranks; ++rank) {
    result.emplace_back(shape.tuning, shape.validation, shape.batch, rank, ranks);
  }
  return result;
}

/// The sequences of every batch of an epoch, whoever holds them, sorted.
std::vector<std::vector<std::int64_t>> sequences_of(const std::vector<SequenceShards>& all, std::uint64_t seed,
                                                    std::int64_t stream, std::int64_t epoch) {
  std::vector<std::vector<std::int64_t>> result(static_cast<std::size_t>(all[0].steps()));
  for (const SequenceShards& shards : all) {
    const auto batches = shards.batches(seed, stream, epoch);
    EXPECT_EQ(batches.size(), result.size());
    for (std::size_t step = 0; step < result.size(); ++step) {
      for (const std::int64_t row : batches[step].rows) {
        result[step].push_back(shards.owned().at(static_cast<std::size_t>(row)));
      }
    }
  }
  for (auto& batch : result) std::sort(batch.begin(), batch.end());
  return result;
}

TEST(SequenceShards, EverySequenceHasOneOwner) {
  for (const Shape& shape : shapes) {
    for (int ranks = 1; ranks <= std::min<std::int64_t>(4, shape.batch); ++ranks) {
      std::multiset<std::int64_t> owned;
      for (const SequenceShards& shards : of_all(shape, ranks)) {
        EXPECT_TRUE(std::is_sorted(shards.owned().begin(), shards.owned().end()));
        owned.insert(shards.owned().begin(), shards.owned().end());
      }
      std::multiset<std::int64_t> expected;
      for (std::int64_t i = 0; i < shape.tuning + shape.validation; ++i) expected.insert(i);
      EXPECT_EQ(owned, expected) << ranks;
    }
  }
}

TEST(SequenceShards, BatchesAreTheSameForEveryNumberOfProcesses) {
  for (const Shape& shape : shapes) {
    for (std::int64_t epoch = 0; epoch < 3; ++epoch) {
      const auto expected = sequences_of(of_all(shape, 1), 7, 2, epoch);
      for (int ranks = 2; ranks <= std::min<std::int64_t>(4, shape.batch); ++ranks) {
        const auto all = of_all(shape, ranks);
        EXPECT_EQ(sequences_of(all, 7, 2, epoch), expected) << ranks;
        for (const SequenceShards& shards : all) {
          const auto batches = shards.batches(7, 2, epoch);
          for (std::size_t step = 0; step < batches.size(); ++step) {
            EXPECT_EQ(batches[step].size, static_cast<std::int64_t>(expected[step].size()));
          }
        }
      }
    }
  }
}

TEST(SequenceShards, AnEpochTakesEveryTuningSequenceOnce) {
  for (const Shape& shape : shapes) {
    std::set<std::vector<std::vector<std::int64_t>>> orders;
    for (std::int64_t epoch = 0; epoch < 4; ++epoch) {
      const auto batches = sequences_of(of_all(shape, 1), 7, 2, epoch);
      std::vector<std::int64_t> seen;
      for (std::size_t step = 0; step < batches.size(); ++step) {
        EXPECT_FALSE(batches[step].empty());
        if (step + 1 < batches.size()) {
          EXPECT_EQ(static_cast<std::int64_t>(batches[step].size()), shape.batch);
        }
        seen.insert(seen.end(), batches[step].begin(), batches[step].end());
      }
      std::sort(seen.begin(), seen.end());
      std::vector<std::int64_t> all(static_cast<std::size_t>(shape.tuning));
      std::iota(all.begin(), all.end(), 0);
      EXPECT_EQ(seen, all);
      orders.insert(batches);
    }
    if (shape.tuning == 16) {
      EXPECT_EQ(orders.size(), 4U);  // each epoch its own
    }
  }
}

TEST(SequenceShards, SeedAndStreamShuffleOtherwise) {
  const auto all = of_all({16, 0, 4}, 1);
  const auto first = sequences_of(all, 7, 2, 0);
  EXPECT_EQ(first, sequences_of(all, 7, 2, 0));
  EXPECT_NE(first, sequences_of(all, 8, 2, 0));
  EXPECT_NE(first, sequences_of(all, 7, 3, 0));
}

TEST(SequenceShards, ValidationSequencesJudgeAndWithoutAnyTheTuningOnes) {
  for (const Shape& shape : shapes) {
    std::vector<std::int64_t> judging;
    const auto all = of_all(shape, static_cast<int>(std::min<std::int64_t>(3, shape.batch)));
    for (const SequenceShards& shards : all) {
      for (const std::int64_t row : shards.judging_rows()) {
        judging.push_back(shards.owned().at(static_cast<std::size_t>(row)));
      }
    }
    std::sort(judging.begin(), judging.end());
    std::vector<std::int64_t> expected(static_cast<std::size_t>(all[0].judging_count()));
    std::iota(expected.begin(), expected.end(), shape.validation > 0 ? shape.tuning : 0);
    EXPECT_EQ(judging, expected);
  }
}

TEST(SequenceShards, RefusesMoreProcessesThanSequencesInABatch) {
  try {
    const SequenceShards shards(16, 4, 4, 0, 5);
    FAIL() << "accepted";
  } catch (const InputError& error) {
    EXPECT_STREQ(error.what(),
                 "mpirun: 5 processes cannot share batches of 4 sequences; start at most 4, or set finetune.batch=5");
  }
  EXPECT_NO_THROW(SequenceShards(0, 0, 4, 0, 5));  // nothing is tuned
}

}  // namespace
}  // namespace pq::quant
