// Evaluation shared between processes. Run alone, and by tests/mpi.sh under mpirun: the same tests on every rank.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "base/communicator.h"
#include "base/log.h"
#include "eval/bigram_model_for_test.h"
#include "eval/perplexity.h"

namespace pq::eval {
namespace {

constexpr std::int64_t vocab = 53;
constexpr std::int64_t length = 30;

struct Expected {
  double mean_nll = 0;
  double kl_divergence = 0;
  double top1_agreement = 0;
};

/// From evaluations of one chunk each, which the first rank does alone.
Expected from_single_chunks(LanguageModel& reference, LanguageModel& model, std::span<const std::int32_t> stream,
                            std::size_t chunks) {
  Expected sums;
  LanguageModel* const models[] = {&model};
  for (std::size_t chunk = 0; chunk < chunks; ++chunk) {
    const auto tokens = stream.subspan(chunk * length, length);
    const auto result = compare_models(reference, models, tokens, {.length = length});
    EXPECT_EQ(result[0].chunks, 1);
    sums.mean_nll += result[0].mean_nll;
    sums.kl_divergence += result[0].kl_divergence;
    sums.top1_agreement += result[0].top1_agreement;
  }
  const auto count = static_cast<double>(chunks);
  return {sums.mean_nll / count, sums.kl_divergence / count, sums.top1_agreement / count};
}

void expect_close(double actual, double expected) { EXPECT_NEAR(actual, expected, 1e-12 * std::fabs(expected)); }

void expect_same_on_every_rank(double value) {
  std::vector<std::byte> of_root(sizeof value);
  std::memcpy(of_root.data(), &value, sizeof value);
  Communicator::world().broadcast(of_root);
  EXPECT_EQ(std::memcmp(of_root.data(), &value, sizeof value), 0);
}

TEST(Ranks, ShareTheChunksOfAnEvaluation) {
  Communicator& world = Communicator::world();
  for (const std::size_t chunks : {1UL, 2UL, 5UL, 16UL}) {  // of which 1 and 2 leave ranks without any
    BigramModel reference(vocab, 1);
    BigramModel model(vocab, 2);
    const auto stream = random_stream(chunks * length + 7, vocab);
    const Expected expected = from_single_chunks(reference, model, stream, chunks);
    reference.tokens_run = 0;
    model.tokens_run = 0;
    LanguageModel* const models[] = {&model, &reference};
    const auto results = compare_models(reference, models, stream, {.length = length, .batch_tokens = 2 * length});
    ASSERT_EQ(results.size(), 2U);
    expect_close(results[0].mean_nll, expected.mean_nll);
    expect_close(results[0].perplexity, std::exp(expected.mean_nll));
    expect_close(results[0].kl_divergence, expected.kl_divergence);
    expect_close(results[0].top1_agreement, expected.top1_agreement);
    EXPECT_EQ(results[0].chunks, static_cast<std::int64_t>(chunks));
    EXPECT_EQ(results[0].tokens, static_cast<std::int64_t>(chunks) * (length - 1));
    EXPECT_EQ(results[1].kl_divergence, 0);
    EXPECT_EQ(results[1].top1_agreement, 1);
    for (const auto& result : results) {
      for (const double value : {result.perplexity, result.mean_nll, result.kl_divergence, result.seconds})
        expect_same_on_every_rank(value);
    }

    // Every chunk ran once, on one of the ranks.
    const auto own = world.share(chunks);
    EXPECT_EQ(model.tokens_run, static_cast<std::int64_t>(own.size()) * length);
    std::vector<std::int64_t> run{model.tokens_run, reference.tokens_run};
    world.sum(std::span<std::int64_t>(run));
    EXPECT_EQ(run, std::vector<std::int64_t>(2, static_cast<std::int64_t>(chunks) * length));

    const PerplexityResult alone = perplexity(model, stream, {.length = length});
    EXPECT_EQ(alone.mean_nll, results[0].mean_nll);
  }
}

TEST(Ranks, WouldNoticeAChunkThatIsLeftOut) {
  BigramModel model(vocab, 2);
  const auto stream = random_stream(16 * length, vocab);
  const double all = perplexity(model, stream, {.length = length}).mean_nll;
  const double part = perplexity(model, stream, {.length = length, .max_chunks = 15}).mean_nll;
  EXPECT_GT(std::fabs(all - part), 1e-12 * all);
}

}  // namespace
}  // namespace pq::eval

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  pq::set_log_level(pq::LogLevel::quiet);
  const int code = RUN_ALL_TESTS();
  pq::Communicator::finish();
  return code;
}
