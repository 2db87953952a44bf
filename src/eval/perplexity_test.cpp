#include "eval/perplexity.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/error_for_test.h"
#include "base/log.h"
#include "base/parallel_for.h"
#include "eval/bigram_model_for_test.h"

namespace pq::eval {
namespace {

using testing::HasSubstr;

const bool quiet = (set_log_level(LogLevel::quiet), true);  // no progress lines between the tests

constexpr std::int64_t vocab = 101;

struct Expected {
  long double nll = 0;
  long double kl = 0;
  long double agreement = 0;
};

// By the definitions, with none of the code under test.
Expected expected_scores(BigramModel& reference, BigramModel& model, std::span<const std::int32_t> stream,
                         std::int64_t length, std::int64_t chunks) {
  Expected sums;
  for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
    for (std::int64_t i = 0; i + 1 < length; ++i) {
      const std::int32_t after = stream[static_cast<std::size_t>(chunk * length + i)];
      const auto p = reference.log_probabilities(after);
      const auto q = model.log_probabilities(after);
      sums.nll -= q[static_cast<std::size_t>(stream[static_cast<std::size_t>(chunk * length + i + 1)])];
      for (std::size_t token = 0; token < p.size(); ++token) sums.kl += std::exp(p[token]) * (p[token] - q[token]);
      sums.agreement += reference.top1(after) == model.top1(after) ? 1 : 0;
    }
  }
  const auto positions = static_cast<long double>(chunks * (length - 1));
  return {sums.nll / positions, sums.kl / positions, sums.agreement / positions};
}

TEST(Perplexity, IsThatOfTheTable) {
  BigramModel model(vocab, 1);
  const auto stream = random_stream(505, vocab);
  const PerplexityResult result = perplexity(model, stream, {.length = 50, .batch_tokens = 150});
  const auto expected = static_cast<double>(expected_scores(model, model, stream, 50, 10).nll);
  EXPECT_NEAR(result.mean_nll, expected, 2e-6);
  EXPECT_NEAR(result.perplexity, std::exp(expected), 2e-6 * std::exp(expected));
  EXPECT_EQ(result.chunks, 10);
  EXPECT_EQ(result.tokens, 490);
  EXPECT_GT(result.seconds, 0);
  EXPECT_EQ(model.batches, (std::vector<std::int64_t>{3, 3, 3, 1}));
  // A model that also predicted the first token of each next chunk would score differently.
  EXPECT_GT(std::fabs(result.mean_nll - static_cast<double>(expected_scores(model, model, stream, 500, 1).nll)), 1e-4);
}

TEST(Perplexity, OfUniformLogitsIsTheVocabularySize) {
  BigramModel model(vocab, 1);
  for (std::int32_t after = 0; after < vocab; ++after) {
    for (std::int32_t token = 0; token < vocab; ++token) model.logit(after, token) = 1e4F;
  }
  const PerplexityResult result = perplexity(model, random_stream(100, vocab), {.length = 2});
  EXPECT_NEAR(result.perplexity, vocab, 2e-4);
  EXPECT_EQ(result.chunks, 50);
  EXPECT_EQ(result.tokens, 50);
}

TEST(Perplexity, DropsTheTailAndCountsNoPrefix) {
  BigramModel model(vocab, 1);
  BigramModel prefixed(vocab, 1, 5);
  auto stream = random_stream(209, vocab);
  const PerplexityResult whole = perplexity(model, stream, {.length = 20});
  EXPECT_EQ(whole.chunks, 10);
  EXPECT_EQ(model.tokens_run, 200);
  EXPECT_EQ(perplexity(prefixed, stream, {.length = 20}).mean_nll, whole.mean_nll);
  EXPECT_EQ(prefixed.tokens_run, 200);
  std::fill(stream.begin() + 200, stream.end(), 7);
  EXPECT_EQ(perplexity(model, stream, {.length = 20}).mean_nll, whole.mean_nll);
  stream.resize(200);
  EXPECT_EQ(perplexity(model, stream, {.length = 20}).mean_nll, whole.mean_nll);
}

TEST(Perplexity, DoesNotDependOnBatchesTilesOrThreads) {
  BigramModel model(vocab, 1);
  const auto stream = random_stream(9000, vocab);
  const PerplexityResult one = perplexity(model, stream, {.length = 30, .batch_tokens = 1});
  EXPECT_EQ(model.batches.size(), 300U);
  for (const std::int64_t batch : {60, 1000, 100000}) {  // the last needs several tiles of logits
    EXPECT_EQ(perplexity(model, stream, {.length = 30, .batch_tokens = batch}).mean_nll, one.mean_nll);
  }
  for (const int threads : {1, 3}) {
    set_thread_count(threads);
    EXPECT_EQ(perplexity(model, stream, {.length = 30}).mean_nll, one.mean_nll);
  }
  set_thread_count(0);
}

TEST(Perplexity, MaxChunksTakesTheFirst) {
  BigramModel model(vocab, 1);
  const auto stream = random_stream(505, vocab);
  const PerplexityResult some = perplexity(model, stream, {.length = 50, .max_chunks = 3});
  EXPECT_EQ(some.chunks, 3);
  EXPECT_EQ(some.mean_nll, perplexity(model, std::span(stream).first(150), {.length = 50}).mean_nll);
  EXPECT_EQ(perplexity(model, stream, {.length = 50, .max_chunks = 99}).chunks, 10);
}

TEST(Perplexity, RefusesWhatCannotBeEvaluated) {
  BigramModel model(vocab, 1);
  const auto stream = random_stream(300, vocab);
  EXPECT_EQ(message_of<InputError>([&] { perplexity(model, stream, {.length = 512}); }),
            "text: 300 tokens, but one chunk takes 512; give a longer text or a smaller --length");
  EXPECT_EQ(message_of<InputError>([&] { perplexity(model, {}, {}); }),
            "text: 0 tokens, but one chunk takes 2048; give a longer text or a smaller --length");
  EXPECT_EQ(message_of<InputError>([&] { perplexity(model, stream, {.length = 1}); }),
            "--length: 1 leaves no token to predict; use 2 or more");
  EXPECT_THROW(perplexity(model, stream, {.length = 50, .batch_tokens = 0}), InputError);
  EXPECT_THROW(perplexity(model, stream, {.length = 50, .max_chunks = -1}), InputError);
  for (const std::int32_t bad : {-1, 101}) {
    auto broken = stream;
    broken[60] = bad;
    EXPECT_EQ(
        message_of<InputError>([&] { perplexity(model, broken, {.length = 50}); }),
        fmt::format("text: token id {} at position 60 is outside the model's vocabulary of 101; use the tokenizer "
                    "that belongs to the model",
                    bad));
  }
  EXPECT_EQ(model.tokens_run, 0);
}

TEST(Perplexity, NamesTheChunkOfALogitThatIsNotFinite) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    BigramModel model(vocab, 1);
    BigramModel good(vocab, 2);
    LanguageModel* const both[] = {&good, &model};
    LanguageModel* const one[] = {&good};
    std::vector<std::int32_t> stream(500, 3);
    stream[217] = 42;
    model.logit(42, 99) = bad;
    const std::string what = fmt::format("the logit of token 99 is {} in chunk 4, after its token 17", bad);
    EXPECT_THAT(message_of<FormatError>([&] { perplexity(model, stream, {.length = 50}); }),
                HasSubstr("logits: " + what));
    EXPECT_THAT(message_of<FormatError>([&] { compare_models(good, both, stream, {.length = 50}); }),
                HasSubstr("logits of model 1: " + what));
    EXPECT_THAT(message_of<FormatError>([&] { compare_models(model, one, stream, {.length = 50}); }),
                HasSubstr("logits of the reference: " + what));
    // After a chunk's last token nothing is predicted.
    stream[217] = 3;
    stream[249] = 42;
    EXPECT_GT(perplexity(model, stream, {.length = 50}).perplexity, 1);
  }
}

TEST(CompareModels, MatchesTheDefinitions) {
  BigramModel reference(vocab, 1);
  BigramModel other(vocab, 2);
  BigramModel near(vocab, 1);
  for (std::int32_t after = 0; after < vocab; ++after) {
    for (std::int32_t token = 0; token < vocab; ++token) near.logit(after, token) *= 1.01F;
  }
  near.logit(7, near.top1(8)) = 30;
  const auto stream = random_stream(1234, vocab);
  LanguageModel* const models[] = {&other, &reference, &near};
  const auto results = compare_models(reference, models, stream, {.length = 100, .batch_tokens = 500});
  ASSERT_EQ(results.size(), 3U);
  BigramModel* const tables[] = {&other, &reference, &near};
  for (std::size_t m = 0; m < 3; ++m) {
    const Expected expected = expected_scores(reference, *tables[m], stream, 100, 12);
    EXPECT_NEAR(results[m].mean_nll, static_cast<double>(expected.nll), 2e-6);
    EXPECT_NEAR(results[m].kl_divergence, static_cast<double>(expected.kl), 2e-5);
    EXPECT_DOUBLE_EQ(results[m].top1_agreement, static_cast<double>(expected.agreement));
    EXPECT_EQ(results[m].chunks, 12);
    EXPECT_EQ(results[m].tokens, 12 * 99);
    EXPECT_GT(results[m].seconds, 0);
    EXPECT_EQ(results[m].mean_nll, perplexity(*tables[m], stream, {.length = 100}).mean_nll);
  }
  EXPECT_EQ(results[1].kl_divergence, 0);
  EXPECT_EQ(results[1].top1_agreement, 1);
  EXPECT_LT(results[2].top1_agreement, 1);
  EXPECT_GT(results[2].top1_agreement, 0.9);
  // The divergence is not symmetric: the other direction is another number.
  LanguageModel* const back[] = {&reference};
  const double reversed = compare_models(other, back, stream, {.length = 100})[0].kl_divergence;
  EXPECT_NEAR(reversed, static_cast<double>(expected_scores(other, reference, stream, 100, 12).kl), 2e-5);
  EXPECT_GT(std::fabs(reversed - results[0].kl_divergence), 1e-3);
}

TEST(CompareModels, RunsTheReferenceOnce) {
  BigramModel reference(vocab, 1);
  BigramModel twin(vocab, 1);
  LanguageModel* const models[] = {&reference, &twin};
  const auto results = compare_models(reference, models, random_stream(400, vocab), {.length = 100});
  EXPECT_EQ(reference.tokens_run, 400);
  EXPECT_EQ(twin.tokens_run, 400);
  EXPECT_EQ(results[0].mean_nll, results[1].mean_nll);
  EXPECT_EQ(results[1].kl_divergence, 0);
  EXPECT_EQ(results[1].top1_agreement, 1);
}

TEST(CompareModels, RefusesAnotherVocabulary) {
  BigramModel reference(vocab, 1);
  BigramModel other(vocab + 1, 1);
  LanguageModel* const models[] = {&reference, &other};
  EXPECT_EQ(
      message_of<InputError>([&] { compare_models(reference, models, random_stream(400, vocab), {.length = 100}); }),
      "model 1: its vocabulary has 102 tokens, the reference's 101; compare models that share a tokenizer");
  EXPECT_TRUE(compare_models(reference, {}, random_stream(400, vocab), {.length = 100}).empty());
}

TEST(JoinWikitext, JoinsRowsAsTheDatasetsLibraryGivesThem) {
  EXPECT_EQ(join_wikitext(""), "");
  EXPECT_EQ(join_wikitext("a\n \nb\n"), "a\n\n\n\n\nb\n");
  EXPECT_EQ(join_wikitext(" \n = Title = \n \n Text . \n"), "\n\n = Title = \n\n\n\n\n Text . \n");
  EXPECT_EQ(join_wikitext("a\n\nb"), "a\n\n\n\n\nb");
  EXPECT_EQ(join_wikitext("a\n \n"), "a\n\n\n");
}

}  // namespace
}  // namespace pq::eval
