#include "generation/text_generation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/error.h"

namespace pq {
namespace {

using testing::ElementsAre;

/// Tokens 0 to 3 are the four bytes of U+1F600, 4 and 5 are "ab" and "c", 6 is a special token.
const Tokenizer& tokenizer() {
  static const Tokenizer parsed = Tokenizer::parse(
      R"({"added_tokens": [{"id": 6, "content": "<|im_end|>", "special": true}],
          "decoder": {"type": "ByteFallback"},
          "model": {"type": "BPE", "merges": [], "byte_fallback": true,
                    "vocab": {"<0xF0>": 0, "<0x9F>": 1, "<0x98>": 2, "<0x80>": 3, "ab": 4, "c": 5}}})",
      "the test's tokenizer");
  return parsed;
}
constexpr std::size_t vocab_size = 7;

/// Logits that make `token` the likeliest.
std::vector<float> logits_of(std::int32_t token) {
  std::vector<float> logits(vocab_size, 0.0F);
  logits[static_cast<std::size_t>(token)] = 1.0F;
  return logits;
}

TextGeneration start(const TextOptions& options, const std::vector<std::int32_t>& prompt = {}) {
  return {tokenizer(), end_tokens({}, vocab_size, tokenizer()), options, prompt, !prompt.empty()};
}

TEST(TextGeneration, ShowsWholeCharacters) {
  TextGeneration text = start({});
  EXPECT_EQ(text.push(logits_of(4)), "ab");
  for (const std::int32_t byte : {0, 1, 2}) EXPECT_EQ(text.push(logits_of(byte)), "");
  EXPECT_EQ(text.push(logits_of(3)), "\U0001F600");
  EXPECT_FALSE(text.finished());
  EXPECT_EQ(text.finish_reason(), std::nullopt);
  EXPECT_EQ(text.text(), "ab\U0001F600");
  EXPECT_THAT(text.tokens(), ElementsAre(4, 0, 1, 2, 3));
}

TEST(TextGeneration, HalfACharacterAtTheEndIsShownAsOneThatIsMissing) {
  TextGeneration text = start({});
  text.push(logits_of(4));
  text.push(logits_of(0));
  const std::string rest = text.finish(FinishReason::context);
  EXPECT_FALSE(rest.empty());
  EXPECT_EQ(rest.substr(0, 3), "\uFFFD");
  EXPECT_EQ(text.text(), "ab" + rest);
  EXPECT_EQ(text.finish_reason(), FinishReason::context);
}

TEST(TextGeneration, EndsAtAnEndToken) {
  TextGeneration text = start({});
  EXPECT_EQ(text.push(logits_of(4)), "ab");
  EXPECT_EQ(text.push(logits_of(6)), "");
  EXPECT_EQ(text.finish_reason(), FinishReason::end_of_text);
  EXPECT_THAT(text.tokens(), ElementsAre(4));
  EXPECT_THROW(text.push(logits_of(4)), std::logic_error);
  EXPECT_THROW(text.finish(FinishReason::interrupted), std::logic_error);
}

TEST(TextGeneration, GoesOnBehindAnEndTokenWhenTold) {
  TextOptions options;
  options.ignore_end_tokens = true;
  TextGeneration text = start(options);
  text.push(logits_of(6));
  EXPECT_FALSE(text.finished());
  EXPECT_THAT(text.tokens(), ElementsAre(6));
}

TEST(TextGeneration, EndsAtAStopStringAcrossTokens) {
  TextOptions options;
  options.stop = {"bc"};
  TextGeneration text = start(options);
  EXPECT_EQ(text.push(logits_of(4)), "a");  // the "b" may be half of it
  EXPECT_EQ(text.push(logits_of(5)), "");
  EXPECT_EQ(text.finish_reason(), FinishReason::stop_string);
  EXPECT_EQ(text.stop_string(), "bc");
  EXPECT_EQ(text.text(), "a");
}

TEST(TextGeneration, WhatWasHeldBackIsShownAtTheEnd) {
  TextOptions options;
  options.stop = {"bc"};
  options.max_tokens = 2;
  TextGeneration text = start(options);
  EXPECT_EQ(text.push(logits_of(5)), "c");
  EXPECT_EQ(text.push(logits_of(4)), "ab");
  EXPECT_EQ(text.finish_reason(), FinishReason::max_tokens);
  EXPECT_EQ(text.text(), "cab");
}

TEST(TextGeneration, AStopStringInWhatWasHeldBackIsTheReason) {
  TextOptions options;
  options.stop = {"\uFFFD"};
  TextGeneration text = start(options);
  text.push(logits_of(4));
  text.push(logits_of(0));
  EXPECT_EQ(text.finish(FinishReason::interrupted), "");
  EXPECT_EQ(text.finish_reason(), FinishReason::stop_string);
  EXPECT_EQ(text.text(), "ab");
}

TEST(TextGeneration, ThePenaltyCountsThePrompt) {
  TextOptions options;
  options.sampling.repetition_penalty = 4;
  std::vector<float> logits = logits_of(4);
  logits[5] = 0.5F;
  EXPECT_EQ(start(options).push(logits), "ab");
  EXPECT_EQ(start(options, {4}).push(logits), "c");
}

TEST(TextGeneration, EndTokensAreThoseOfTheModelAndOfChats) {
  const std::vector<std::int64_t> of_the_model{5, -1, 7};  // the last two are no tokens of it
  EXPECT_THAT(end_tokens(of_the_model, vocab_size, tokenizer()), ElementsAre(5, 6));
}

TEST(TextGeneration, OptionsOutOfRange) {
  TextOptions options;
  options.max_tokens = -1;
  EXPECT_THROW(options.validate(), InputError);
  options = {};
  options.stop = {""};
  EXPECT_THROW(start(options), InputError);
  options = {};
  options.sampling.top_p = 0;
  EXPECT_THROW(start(options), InputError);
}

TEST(TextGeneration, ReasonsHaveNames) {
  EXPECT_EQ(finish_reason_name(FinishReason::end_of_text), "end_of_text");
  EXPECT_EQ(finish_reason_name(FinishReason::stop_string), "stop_string");
  EXPECT_EQ(finish_reason_name(FinishReason::max_tokens), "max_tokens");
  EXPECT_EQ(finish_reason_name(FinishReason::context), "context");
  EXPECT_EQ(finish_reason_name(FinishReason::interrupted), "interrupted");
}

}  // namespace
}  // namespace pq
