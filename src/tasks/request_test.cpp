#include "tasks/request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/error_for_test.h"
#include "tasks/plan.h"

namespace pq::tasks {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

/// Characters are tokens: <s> 0, </s> 1, then "a" 2, "b" 3, "c" 4, " " 5, and "a b" joined by merges: " b" 6.
Tokenizer tokenizer(bool adds_bos = true) {
  const std::string post = R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
      {"Sequence": {"id": "A", "type_id": 0}}], "pair": [{"Sequence": {"id": "A", "type_id": 0}},
      {"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}})";
  const std::string added =
      R"([{"id": 0, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
      "special": true}])";
  return Tokenizer::parse(R"({"version": "1.0", "truncation": null, "padding": null, "added_tokens": )" + added +
                              R"(, "normalizer": null, "pre_tokenizer": null, "post_processor": )" +
                              (adds_bos ? post : "null") +
                              R"(, "decoder": null, "model": {"type": "BPE", "dropout": null, "unk_token": null,
      "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
      "ignore_merges": false, "vocab": {"<s>": 0, "</s>": 1, "a": 2, "b": 3, "c": 4, " ": 5, " b": 6, "\n": 7},
      "merges": [[" ", "b"]]}})",
                          "t.json");
}

Document document(std::vector<Prompt> prompts) {
  return {.where = "f.jsonl, line 3", .prompts = std::move(prompts), .characters = {}};
}

Request encoded(const RequestEncoder& encoder, const std::string& context, const std::string& continuation) {
  return encoder.encode(document({{context, continuation}}))[0];
}

TEST(Requests, ScoreWhatTheWholeHasBeyondTheContext) {
  const Tokenizer plain = tokenizer(false);
  const RequestEncoder encoder(plain, Bos::automatic, 100);
  EXPECT_FALSE(encoder.adds_bos());
  const Request request = encoded(encoder, "ac", " bc");
  EXPECT_THAT(*request.input, ElementsAre(2, 4, 6));
  EXPECT_THAT(request.targets, ElementsAre(6, 4));
  EXPECT_FALSE(request.truncated);
}

// A broken variant, which encodes the context as it stands, would score a "b" behind a space.
TEST(Requests, MoveWhiteSpaceToTheContinuation) {
  const Tokenizer plain = tokenizer(false);
  const RequestEncoder encoder(plain, Bos::automatic, 100);
  const Request request = encoded(encoder, "ac ", "bc");
  EXPECT_THAT(*request.input, ElementsAre(2, 4, 6));
  EXPECT_THAT(request.targets, ElementsAre(6, 4));
}

TEST(Requests, PutABosInFrontOnce) {
  const Tokenizer with = tokenizer(true);
  EXPECT_THAT(*encoded(RequestEncoder(with, Bos::automatic, 100), "a", "c").input, ElementsAre(0, 2));
  EXPECT_THAT(*encoded(RequestEncoder(with, Bos::yes, 100), "a", "c").input, ElementsAre(0, 2));
  EXPECT_THAT(*encoded(RequestEncoder(with, Bos::no, 100), "a", "c").input, ElementsAre(2));
  EXPECT_THAT(*encoded(RequestEncoder(with, Bos::automatic, 100), "<s>a", "c").input, ElementsAre(0, 2));
  EXPECT_THAT(message_of<Error>([] {
                const Tokenizer none = tokenizer(false);
                RequestEncoder(none, Bos::yes, 100);
              }),
              HasSubstr("--bos yes"));
}

TEST(Requests, OfAnEmptyContextBeginWithTheBos) {
  const Tokenizer with = tokenizer(true);
  const RequestEncoder encoder(with, Bos::no, 100);
  const Request request = encoded(encoder, "", "ac");
  EXPECT_THAT(*request.input, ElementsAre(0, 2));
  EXPECT_THAT(request.targets, ElementsAre(2, 4));
  EXPECT_THAT(*encoded(encoder, "", "<s>ac").input, ElementsAre(0, 2));
}

TEST(Requests, AreCutFromTheLeft) {
  const Tokenizer with = tokenizer(true);
  const RequestEncoder encoder(with, Bos::automatic, 4);
  const Request fits = encoded(encoder, "aaa", "cb");  // five tokens and the BOS, of which the last is only a target
  EXPECT_THAT(*fits.input, ElementsAre(2, 2, 2, 4));
  EXPECT_TRUE(fits.truncated);
  EXPECT_FALSE(encoded(encoder, "aa", "cb").truncated);
  EXPECT_THAT(message_of<Error>([&] { encoded(encoder, "a", "cccca"); }),
              HasSubstr("f.jsonl, line 3: choice 0 (\"cccca\") has 5 tokens, more than the model's context of 4"));
  EXPECT_THAT(message_of<Error>([&] { encoded(encoder, "a", ""); }), HasSubstr("choice 0 (\"\") tokenizes to nothing"));
  EXPECT_THAT(message_of<Error>([&] {
                encoder.encode(document({{"a", "", "sol1"}}));
              }),
              HasSubstr("f.jsonl, line 3: field `sol1`: choice 0"));
}

TEST(Requests, OfAPagePredictEachTokenOnce) {
  const Tokenizer with = tokenizer(true);
  const RequestEncoder encoder(with, Bos::no, 3);
  const auto requests = encoder.encode_page(document({{"", "abcabcaa"}}));
  ASSERT_EQ(requests.size(), 3U);
  EXPECT_THAT(*requests[0].input, ElementsAre(0, 2, 3));
  EXPECT_THAT(requests[0].targets, ElementsAre(2, 3, 4));
  EXPECT_THAT(*requests[1].input, ElementsAre(4, 2, 3));
  EXPECT_THAT(requests[1].targets, ElementsAre(2, 3, 4));
  EXPECT_THAT(*requests[2].input, ElementsAre(3, 4, 2));  // the short last window sees older tokens
  EXPECT_THAT(requests[2].targets, ElementsAre(2, 2));
}

TEST(Plan, SharesWhatTokensHaveInCommon) {
  RequestGroup group{{{{1, 2, 3, 4}, {9}}, {{1, 2, 3, 4}, {8}}, {{1, 2, 5}, {7, 7}}, {{1, 2}, {6}}}, 10};
  const auto families = plan_families({&group, 1}, Together::stems);
  ASSERT_EQ(families.size(), 1U);
  EXPECT_THAT(families[0].family.stem, ElementsAre(1, 2));
  ASSERT_EQ(families[0].family.branches.size(), 3U);
  EXPECT_THAT(families[0].family.branches[0].tokens, ElementsAre(3, 4));
  EXPECT_EQ(families[0].family.branches[1].wanted, 2);
  EXPECT_TRUE(families[0].family.branches[2].tokens.empty());
  ASSERT_EQ(families[0].scored.size(), 4U);
  EXPECT_EQ(families[0].scored[1].request, 11U);
  EXPECT_EQ(families[0].scored[1].branch, 0U);
  EXPECT_EQ(families[0].scored[3].branch, 2U);

  EXPECT_EQ(plan_families({&group, 1}, Together::equal).size(), 3U);
}

TEST(Plan, BatchesHoldAllFamiliesOnceTheLongestFirst) {
  std::vector<PlannedFamily> families(20);
  for (std::size_t i = 0; i < families.size(); ++i) {
    families[i].family.stem.assign(5 + i * 7 % 20, 1);
    families[i].family.branches.push_back({{}, 1});
  }
  const auto batches = plan_batches(families, Together::stems, 60);
  std::vector<bool> seen(families.size());
  for (const auto& batch : batches) {
    for (const std::size_t member : batch) {
      EXPECT_FALSE(seen[member]);
      seen[member] = true;
    }
    EXPECT_LE(static_cast<std::int64_t>(batch.size()) * families[batch[0]].family.longest(), 60);
  }
  EXPECT_EQ(std::accumulate(seen.begin(), seen.end(), 0), 20);
  EXPECT_EQ(families[batches[0][0]].family.longest(), 24);
  EXPECT_EQ(plan_batches(families, Together::alone, 60).size(), 20U);
}

}  // namespace
}  // namespace pq::tasks
