#include "tokenizer/bpe.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "base/random.h"

namespace pq {
namespace {

struct RandomBpe {
  TokenTable vocab;
  MergeList merges;
  std::vector<std::string> tokens;
  std::vector<std::pair<std::size_t, std::size_t>> pairs;  // into tokens
};

/// Merges in any order, so that a longer token may rank before the ones it is made of.
RandomBpe random_bpe(Random& random, std::size_t alphabet, std::size_t merges) {
  RandomBpe bpe;
  for (std::size_t i = 0; i < alphabet; ++i) bpe.tokens.emplace_back(1, static_cast<char>('a' + i));
  std::set<std::string> known(bpe.tokens.begin(), bpe.tokens.end());
  for (std::size_t i = 0; i < merges; ++i) {
    const std::pair<std::size_t, std::size_t> pair(random.below(bpe.tokens.size()), random.below(bpe.tokens.size()));
    const std::string joined = bpe.tokens[pair.first] + bpe.tokens[pair.second];
    if (joined.size() > 8) continue;
    bpe.pairs.push_back(pair);
    if (known.insert(joined).second) bpe.tokens.push_back(joined);
  }
  random.shuffle(bpe.pairs);
  for (std::size_t id = 0; id < bpe.tokens.size(); ++id) bpe.vocab.add(bpe.tokens[id], id);
  for (const auto& [left, right] : bpe.pairs) bpe.merges.add(bpe.tokens[left], bpe.tokens[right]);
  return bpe;
}

/// By the definition: again and again the pair of lowest rank, the leftmost of equals.
std::vector<std::int32_t> encode_slowly(const RandomBpe& bpe, const std::string& word) {
  std::vector<std::string> parts;
  for (const char c : word) parts.emplace_back(1, c);
  const auto rank = [&](const std::string& left, const std::string& right) {
    for (std::size_t i = bpe.pairs.size(); i-- > 0;) {  // of two equal merges the later counts
      if (bpe.tokens[bpe.pairs[i].first] == left && bpe.tokens[bpe.pairs[i].second] == right) return i;
    }
    return bpe.pairs.size();
  };
  while (true) {
    std::size_t best = bpe.pairs.size();
    std::size_t at = 0;
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
      if (const std::size_t here = rank(parts[i], parts[i + 1]); here < best) {
        best = here;
        at = i;
      }
    }
    if (best == bpe.pairs.size()) break;
    parts[at] += parts[at + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
  std::vector<std::int32_t> ids;
  for (const std::string& part : parts) ids.push_back(bpe.vocab.find(part));
  return ids;
}

TEST(BpeModel, EqualsTheDefinition) {
  Random random(1, "bpe");
  BpeModel::Scratch scratch;
  for (int round = 0; round < 60; ++round) {
    const RandomBpe bpe = random_bpe(random, 2 + random.below(4), 1 + random.below(30));
    const BpeModel model(bpe.vocab, bpe.merges, {}, "test");
    for (int i = 0; i < 30; ++i) {
      std::string word;
      for (std::uint64_t length = random.below(30); length > 0; --length) word += bpe.tokens[random.below(4)][0];
      std::vector<std::int32_t> ids;
      model.encode(word, scratch, ids);
      ASSERT_EQ(ids, encode_slowly(bpe, word)) << word;
    }
  }
}

TEST(TokenTable, FindsWhatWasAdded) {
  TokenTable table;
  EXPECT_EQ(table.find("a"), -1);
  for (std::uint64_t id = 0; id < 5000; ++id)
    ASSERT_EQ(table.add("t" + std::to_string(id), id * 3), TokenTable::Added::yes);
  EXPECT_EQ(table.count(), 5000U);
  EXPECT_EQ(table.id_end(), 4999U * 3 + 1);
  for (std::int32_t id = 0; id < 5000; ++id) {
    ASSERT_EQ(table.find("t" + std::to_string(id)), id * 3);
    ASSERT_EQ(table.text(id * 3), "t" + std::to_string(id));
  }
  EXPECT_FALSE(table.has(1));
  EXPECT_EQ(table.add("t7", 1), TokenTable::Added::duplicate_token);
  EXPECT_EQ(table.add("new", 3), TokenTable::Added::duplicate_id);
  EXPECT_EQ(table.add("new", 1U << 22), TokenTable::Added::id_out_of_range);
}

}  // namespace
}  // namespace pq
