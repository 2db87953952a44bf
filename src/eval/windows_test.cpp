#include "eval/windows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/log.h"
#include "eval/bigram_model_for_test.h"
#include "eval/perplexity.h"

namespace pq::eval {
namespace {

using testing::ElementsAre;

const bool quiet = (set_log_level(LogLevel::quiet), true);  // no progress lines between the tests

constexpr std::int64_t vocab = 101;

std::vector<std::int32_t> counting(std::int32_t count) {
  std::vector<std::int32_t> stream(static_cast<std::size_t>(count));
  std::iota(stream.begin(), stream.end(), 0);
  return stream;
}

/// "begin+length: scored*weight" of each.
std::vector<std::string> listed(const Windows& windows) {
  std::vector<std::string> list;
  for (std::int64_t i = 0; i < windows.count(); ++i) {
    const Window& w = windows[i];
    list.push_back(std::to_string(w.begin) + "+" + std::to_string(w.length) + ": " + std::to_string(w.scored) + "*" +
                   std::to_string(static_cast<int>(w.weight)));
  }
  return list;
}

PerplexityOptions overlapping(std::int64_t length, std::int64_t stride, std::int64_t max_chunks = 0) {
  PerplexityOptions options{.length = length, .max_chunks = max_chunks};
  options.windowing = Windowing::stride;
  options.stride = stride;
  return options;
}

PerplexityOptions llama_cpp(std::int64_t length, std::optional<std::int32_t> bos) {
  PerplexityOptions options{.length = length};
  options.windowing = Windowing::llama_cpp;
  options.bos = bos;
  return options;
}

TEST(Windows, ChunksScoreAllButTheirFirstToken) {
  const auto stream = counting(11);
  EXPECT_THAT(listed(Windows(stream, {.length = 5})), ElementsAre("0+5: 4*1", "5+5: 4*1"));
  EXPECT_THAT(listed(Windows(stream, {.length = 5, .max_chunks = 1})), ElementsAre("0+5: 4*1"));
}

TEST(Windows, OverlapAsTheGuidesDo) {
  // for begin in range(0, n, stride): end = min(begin + length, n); new = end - previous end; stop at the end.
  EXPECT_THAT(listed(Windows(counting(20), overlapping(8, 5))),
              ElementsAre("0+8: 7*7", "5+8: 5*4", "10+8: 5*4", "15+5: 2*1"));
  EXPECT_THAT(listed(Windows(counting(18), overlapping(8, 5))), ElementsAre("0+8: 7*7", "5+8: 5*4", "10+8: 5*4"));
  EXPECT_THAT(listed(Windows(counting(19), overlapping(8, 5))),
              ElementsAre("0+8: 7*7", "5+8: 5*4", "10+8: 5*4", "15+4: 1*0"));
  EXPECT_THAT(listed(Windows(counting(5), overlapping(8, 5))), ElementsAre("0+5: 4*4"));  // shorter than a window
  EXPECT_THAT(listed(Windows(counting(20), overlapping(8, 5, 2))), ElementsAre("0+8: 7*7", "5+8: 5*4"));
  // Without overlap the first token of each is not predicted; a last one of one token predicts nothing.
  EXPECT_THAT(listed(Windows(counting(9), overlapping(4, 4))), ElementsAre("0+4: 3*3", "4+4: 3*3", "8+1: 0*0"));
}

TEST(Windows, LlamaCppScoresTheSecondHalfAfterABos) {
  const auto stream = counting(23);
  const Windows even(stream, llama_cpp(8, 99));
  EXPECT_THAT(listed(even), ElementsAre("0+8: 3*1", "8+8: 3*1"));  // logits 4, 5, 6 of 0 to 7
  EXPECT_THAT(even.tokens(0, 2), ElementsAre(99, 1, 2, 3, 4, 5, 6, 7, 99, 9, 10, 11, 12, 13, 14, 15));
  EXPECT_THAT(listed(Windows(stream, llama_cpp(7, 99))), ElementsAre("0+7: 3*1", "7+7: 3*1", "14+7: 3*1"));
  EXPECT_THAT(Windows(stream, llama_cpp(8, {})).tokens(1, 1), ElementsAre(8, 9, 10, 11, 12, 13, 14, 15));
}

TEST(Windows, RunTogetherWhereTheyHaveOneLength) {
  PerplexityOptions options = overlapping(8, 5);
  options.batch_tokens = 16;
  const auto stream = counting(20);
  const Windows windows(stream, options);
  EXPECT_EQ(windows.together(0, 4), 2);
  EXPECT_EQ(windows.together(2, 4), 1);
  EXPECT_EQ(windows.together(3, 4), 1);
  EXPECT_EQ(windows.together(0, 1), 1);
  EXPECT_THAT(windows.tokens(3, 1), ElementsAre(15, 16, 17, 18, 19));
  EXPECT_EQ(windows.scored(), 19);
  EXPECT_EQ(windows.weight(), 16);
  EXPECT_EQ(windows.covered().size(), 20U);
}

TEST(Windows, RefuseWhatLeavesTokensOutOrPredictsNone) {
  const auto stream = counting(20);
  const auto refused = [&](const PerplexityOptions& options) -> std::string {
    try {
      const Windows windows(stream, options);
    } catch (const InputError& error) {
      return error.what();
    }
    return "nothing was thrown";
  };
  EXPECT_EQ(refused(overlapping(8, 9)),
            "--stride: 9 tokens from one window of 8 to the next leave some out; use 1 to 8");
  EXPECT_EQ(refused(overlapping(8, 0)), "--stride: 0 tokens from one window of 8 to the next lead nowhere; use 1 to 8");
  EXPECT_EQ(refused(llama_cpp(2, {})),
            "--llama-cpp-chunks: the second half of 2 tokens has none to predict; use a --length of 3 or more");
  EXPECT_EQ(refused(llama_cpp(21, {})),
            "text: 20 tokens, but one chunk takes 21; give a longer text or a smaller --length");
}

/// By the definitions: of every window the mean loss of its scored tokens, weighted.
double expected_mean_nll(BigramModel& model, std::span<const std::int32_t> stream, const Windows& windows) {
  long double sum = 0;
  long double weights = 0;
  for (std::int64_t i = 0; i < windows.count(); ++i) {
    const Window& w = windows[i];
    long double nll = 0;
    for (std::int64_t at = w.begin + w.length - w.scored; at < w.begin + w.length; ++at) {
      const auto after = model.log_probabilities(stream[static_cast<std::size_t>(at) - 1]);
      nll -= after[static_cast<std::size_t>(stream[static_cast<std::size_t>(at)])];
    }
    if (w.scored > 0) sum += w.weight * nll / static_cast<long double>(w.scored);
    weights += w.weight;
  }
  return static_cast<double>(sum / weights);
}

TEST(Perplexity, OfWindowsIsThatOfTheirScoredTokens) {
  BigramModel model(vocab, 1);
  BigramModel reference(vocab, 2);
  const auto stream = random_stream(1003, vocab);
  const double of_chunks = perplexity(model, stream, {.length = 64}).mean_nll;
  for (const PerplexityOptions& options :
       {overlapping(64, 17), overlapping(64, 64), overlapping(64, 1), llama_cpp(64, 5), llama_cpp(63, {})}) {
    const Windows windows(stream, options);
    const PerplexityResult result = perplexity(model, stream, options);
    EXPECT_NEAR(result.mean_nll, expected_mean_nll(model, stream, windows), 2e-6);
    EXPECT_EQ(result.chunks, windows.count());
    EXPECT_EQ(result.tokens, windows.scored());
    EXPECT_GT(std::fabs(result.mean_nll - of_chunks), 1e-4);
    PerplexityOptions one_by_one = options;
    one_by_one.batch_tokens = 1;
    EXPECT_EQ(perplexity(model, stream, one_by_one).mean_nll, result.mean_nll);
    LanguageModel* const models[] = {&model};
    const auto compared = compare_models(reference, models, stream, options);
    EXPECT_EQ(compared[0].mean_nll, result.mean_nll);
    EXPECT_GT(compared[0].kl_divergence, 0);
  }
}

/// Counts the rows of logits that are asked for.
class CountingModel : public BigramModel {
 public:
  using BigramModel::BigramModel;
  void logits(std::int64_t first, std::int64_t count, std::span<float> out) override {
    BigramModel::logits(first, count, out);
    rows += count;
  }
  std::int64_t rows = 0;
};

TEST(Perplexity, ComputesNoLogitsThatAreNotScored) {
  const auto stream = random_stream(1024, vocab);
  for (const PerplexityOptions& options : {llama_cpp(128, 5), overlapping(128, 64), overlapping(128, 40)}) {
    CountingModel model(vocab, 1);
    const PerplexityResult result = perplexity(model, stream, options);
    EXPECT_GE(model.rows, result.tokens);
    EXPECT_LE(model.rows, result.tokens + result.chunks);
  }
}

}  // namespace
}  // namespace pq::eval
