#include "generation/sampler.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"

namespace pq {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

/// The definition, in float64 with a full sort: token -> probability.
std::map<std::int32_t, double> reference(std::vector<double> logits, const SamplingOptions& options,
                                         const std::set<std::int32_t>& seen = {}) {
  for (const std::int32_t token : seen) {
    double& logit = logits[static_cast<std::size_t>(token)];
    logit = logit > 0 ? logit / options.repetition_penalty : logit * options.repetition_penalty;
  }
  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto logit = [&](std::int32_t id) { return logits[static_cast<std::size_t>(id)]; };
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return logit(a) > logit(b); });
  if (options.top_k > 0 && static_cast<std::size_t>(options.top_k) < order.size())
    order.resize(static_cast<std::size_t>(options.top_k));
  const auto normalized = [&] {
    std::vector<double> weights;
    double total = 0;
    for (const std::int32_t id : order) {
      weights.push_back(std::exp((logit(id) - logit(order[0])) / options.temperature));
      total += weights.back();
    }
    for (double& weight : weights) weight /= total;
    return weights;
  };
  std::vector<double> probabilities = normalized();
  std::size_t kept = 0;
  for (double sum = 0; kept < order.size() && (options.top_p == 1 || sum < options.top_p); ++kept)
    sum += probabilities[kept];
  order.resize(kept);
  while (probabilities[order.size() - 1] < options.min_p * probabilities[0]) order.pop_back();
  probabilities = normalized();
  std::map<std::int32_t, double> result;
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (probabilities[i] > 0) result[order[i]] = probabilities[i];
  }
  return result;
}

std::vector<float> random_logits(std::size_t vocab, std::uint64_t seed, double spread) {
  Random random(seed, "logits");
  std::vector<float> logits(vocab);
  for (float& logit : logits) logit = static_cast<float>(spread * random.normal());
  return logits;
}

void expect_distribution(const std::vector<float>& logits, const SamplingOptions& options,
                         const std::vector<std::int32_t>& accepted = {}) {
  Sampler sampler(options);
  sampler.accept(accepted);
  const auto expected = reference({logits.begin(), logits.end()}, options, {accepted.begin(), accepted.end()});
  double sum = 0;
  std::size_t shared = 0;
  for (const Sampler::Choice& choice : sampler.distribution(logits)) {
    sum += static_cast<double>(choice.probability);
    const auto at = expected.find(choice.id);
    if (at == expected.end()) {
      EXPECT_LT(choice.probability, 1e-30F) << choice.id;  // float64 and float32 underflow at different places
      continue;
    }
    ++shared;
    // exp in float32 of an argument up to 100: relative error 100 * 2^-24 and a few roundings.
    EXPECT_NEAR(choice.probability, at->second, at->second * 1e-5 + 1e-30) << choice.id;
  }
  EXPECT_NEAR(sum, 1.0, 1e-5);
  double unshared = 1;
  for (const Sampler::Choice& choice : sampler.distribution(logits)) {
    if (expected.contains(choice.id)) unshared -= expected.at(choice.id);
  }
  EXPECT_NEAR(unshared, 0, 1e-9) << shared << " of " << expected.size();
}

TEST(Sampler, DistributionsEqualTheDefinition) {
  for (const std::size_t vocab : {1U, 2U, 7U, 300U, 5000U}) {
    for (const double temperature : {0.3, 1.0, 2.5}) {
      for (const std::int64_t top_k : {0, 1, 5, 2000}) {
        for (const double top_p : {1.0, 0.9, 0.37, 1e-9}) {
          for (const double min_p : {0.0, 0.05, 1.0}) {
            const SamplingOptions options{.temperature = temperature, .top_k = top_k, .top_p = top_p, .min_p = min_p};
            SCOPED_TRACE(fmt::format("vocab {}, T {}, k {}, p {}, min_p {}", vocab, temperature, top_k, top_p, min_p));
            expect_distribution(random_logits(vocab, vocab, 3), options);
          }
        }
      }
    }
  }
}

TEST(Sampler, FlatDistributionsNeedManyCandidates) {
  expect_distribution(random_logits(20000, 3, 0.01), {.temperature = 1, .top_p = 0.95});
  expect_distribution(random_logits(20000, 3, 0.01), {.temperature = 1, .top_k = 15000, .top_p = 0.95});
}

TEST(Sampler, DrawsWithTheProbabilities) {
  const std::vector<float> logits = random_logits(12, 5, 1);
  const SamplingOptions options{.temperature = 0.8, .seed = 7};
  const auto expected = reference({logits.begin(), logits.end()}, options);
  Sampler sampler(options);
  constexpr int draws = 100000;
  std::map<std::int32_t, int> counts;
  for (int i = 0; i < draws; ++i) ++counts[sampler.sample(logits)];
  double chi_square = 0;
  for (const auto& [id, probability] : expected) {
    const double difference = counts[id] - draws * probability;
    chi_square += difference * difference / (draws * probability);
  }
  EXPECT_LT(chi_square, 31.3);  // 11 degrees of freedom: exceeded once in a thousand seeds

  // The bound sees a temperature that is a few hundredths off.
  double wrong = 0;
  for (const auto& [id, probability] : reference({logits.begin(), logits.end()}, {.temperature = 0.84, .seed = 7})) {
    const double difference = counts[id] - draws * probability;
    wrong += difference * difference / (draws * probability);
  }
  EXPECT_GT(wrong, 31.3);
}

TEST(Sampler, GreedyTakesTheLowestOfEquals) {
  Sampler sampler({});
  EXPECT_EQ(sampler.sample(std::vector<float>{1, 3, 3, 2}), 1);
  EXPECT_EQ(sampler.sample(std::vector<float>{-infinity, -5}), 1);
  EXPECT_EQ(sampler.sample(std::vector<float>{0, -0.0F}), 0);
}

TEST(Sampler, TopKOfEqualsTakesTheLowestIds) {
  std::vector<float> logits(5000, 1.0F);
  Sampler sampler({.temperature = 1, .top_k = 3});
  const auto choices = sampler.distribution(logits);
  ASSERT_EQ(choices.size(), 3U);
  for (std::int32_t i = 0; i < 3; ++i) {
    EXPECT_EQ(choices[static_cast<std::size_t>(i)].id, i);
    EXPECT_FLOAT_EQ(choices[static_cast<std::size_t>(i)].probability, 1.0F / 3);
  }
}

TEST(Sampler, TinyTemperaturesAreGreedy) {
  const std::vector<float> logits{-1e30F, 5, 4.999F, 3e38F};
  Sampler sampler({.temperature = 1e-300});
  for (int i = 0; i < 100; ++i) EXPECT_EQ(sampler.sample(logits), 3);
}

TEST(Sampler, RepetitionPenalty) {
  const std::vector<float> logits{2, -2, 1, 0.5F};
  expect_distribution(logits, {.temperature = 1, .repetition_penalty = 1.5}, {0, 1, 1, 0});
  expect_distribution(logits, {.temperature = 1, .repetition_penalty = 0.5}, {3});

  Sampler sampler({.repetition_penalty = 3, .repetition_window = 2});
  EXPECT_EQ(sampler.sample(logits), 0);
  sampler.accept(0);
  EXPECT_EQ(sampler.sample(logits), 2);
  sampler.accept(2);
  EXPECT_EQ(sampler.sample(logits), 0);  // 2/3, 1/3 and 1/2
  sampler.accept(0);
  sampler.accept(0);  // the window holds nothing but 0 now
  EXPECT_EQ(sampler.sample(logits), 2);
  sampler.accept(std::vector<std::int32_t>{2, 3});
  EXPECT_EQ(sampler.sample(logits), 0);  // forgotten
  sampler.accept(999);                   // not of this vocabulary: ignored
  EXPECT_EQ(sampler.sample(logits), 0);
}

TEST(Sampler, TheSameSeedGivesTheSameTokens) {
  const std::vector<float> logits = random_logits(1000, 1, 1);
  const auto draw = [&](std::uint64_t seed) {
    Sampler sampler({.temperature = 1, .top_k = 100, .seed = seed});
    std::vector<std::int32_t> tokens(50);
    for (std::int32_t& token : tokens) token = sampler.sample(logits);
    return tokens;
  };
  EXPECT_EQ(draw(3), draw(3));
  EXPECT_NE(draw(3), draw(4));
}

TEST(Sampler, RefusesLogitsThatAreNoNumbers) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), infinity}) {
    for (const double temperature : {0.0, 1.0}) {
      Sampler sampler({.temperature = temperature});
      try {
        sampler.sample(std::vector<float>{1, bad, 2});
        FAIL();
      } catch (const InputError& error) {
        EXPECT_THAT(error.what(), testing::StartsWith("sampling: the model's logits are not finite numbers; "));
      }
    }
  }
  Sampler sampler({.temperature = 1});
  EXPECT_THROW(sampler.sample(std::vector<float>{-infinity, -infinity}), InputError);
  EXPECT_THROW(sampler.sample({}), InputError);
}

TEST(Sampler, BlamesTheModelOnlyForItsOwnLogits) {
  Sampler sampler({.temperature = 1, .repetition_penalty = 1e-30});
  sampler.accept(1);
  try {
    sampler.sample(std::vector<float>{1, 1e20F, 2});
    FAIL();
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), testing::StartsWith("--repetition-penalty: 1e-30 takes logits beyond the range"));
  }
}

TEST(SamplingOptions, ErrorsNameTheFlag) {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  const struct {
    SamplingOptions options;
    const char* message;
  } rows[] = {
      {{.temperature = -1}, "--temperature: -1 is out of range; choose 0 (greedy) or more"},
      {{.temperature = nan}, "--temperature: nan is out of range; choose 0 (greedy) or more"},
      {{.top_k = -3}, "--top-k: -3 is out of range; choose 0 (off) or more"},
      {{.top_p = 0}, "--top-p: 0 is out of range; choose more than 0 and at most 1 (off)"},
      {{.top_p = 1.01}, "--top-p: 1.01 is out of range; choose more than 0 and at most 1 (off)"},
      {{.min_p = 2}, "--min-p: 2 is out of range; choose at least 0 (off) and at most 1"},
      {{.repetition_penalty = 0}, "--repetition-penalty: 0 is out of range; choose more than 0; 1 is off"},
      {{.repetition_penalty = 1e-60}, "--repetition-penalty: 1e-60 is out of range; choose more than 0; 1 is off"},
      {{.repetition_window = -1}, "--repetition-window: -1 is out of range; choose 0 (the whole text) or more"},
  };
  for (const auto& row : rows) {
    try {
      const Sampler sampler(row.options);
      FAIL() << row.message;
    } catch (const InputError& error) {
      EXPECT_STREQ(error.what(), row.message);
    }
  }
  SamplingOptions{.temperature = 1, .top_p = 1, .min_p = 1}.validate();
}

}  // namespace
}  // namespace pq
