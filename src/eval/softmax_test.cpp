#include "eval/softmax.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "base/random.h"

namespace pq::eval {
namespace {

std::vector<float> random_logits(std::size_t count, double spread, std::string_view stream) {
  Random random(11, stream);
  std::vector<float> logits(count);
  for (auto& logit : logits) logit = static_cast<float>(spread * random.normal());
  return logits;
}

long double exact_log_sum(const std::vector<float>& logits) {
  const long double max = *std::max_element(logits.begin(), logits.end());
  long double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - max);
  return std::log(sum);
}

constexpr std::size_t sizes[] = {1, 2, 3, 15, 16, 17, 63, 255, 256, 257, 1000, 8192, 32768};

TEST(Softmax, ExpIsRightOverTheWholeRange) {
  double worst = 0;
  std::vector<float> x;
  // Every 97th float between -87 and -1e-9, and 0.
  for (auto bits = std::bit_cast<std::uint32_t>(-1e-9F); bits <= std::bit_cast<std::uint32_t>(-87.0F); bits += 97) {
    x.push_back(std::bit_cast<float>(bits));
  }
  x.push_back(0.0F);
  std::vector<float> y = x;
  exp_of_nonpositive(y);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double expected = std::exp(static_cast<double>(x[i]));
    worst = std::max(worst, std::fabs(y[i] - expected) / expected);
  }
  EXPECT_LE(worst, 1e-7);
  EXPECT_EQ(y.back(), 1.0F);
  std::vector<float> far{-88, -1e30F, std::numeric_limits<float>::lowest(), -std::numeric_limits<float>::infinity()};
  exp_of_nonpositive(far);
  for (const float value : far) EXPECT_NEAR(value, 1.6458e-38, 1e-41);
}

TEST(Softmax, LogSumIsRight) {
  for (const std::size_t size : sizes) {
    for (const double spread : {0.0, 0.1, 3.0, 50.0}) {
      const auto logits = random_logits(size, spread, "log sum");
      const LogitStats stats = logit_stats(logits);
      ASSERT_TRUE(stats.finite);
      ASSERT_EQ(stats.max, *std::max_element(logits.begin(), logits.end()));
      // 16 float32 additions and one exponential, each to 2^-24 or 1e-7.
      ASSERT_NEAR(stats.log_sum, static_cast<double>(exact_log_sum(logits)), 1.1e-6) << size << ' ' << spread;
    }
  }
}

TEST(Softmax, ExtremesOfFloat) {
  const float largest = std::numeric_limits<float>::max();
  const std::vector<float> apart{-largest, largest, 0};
  EXPECT_EQ(logit_stats(apart).max, largest);
  EXPECT_NEAR(logit_stats(apart).log_sum, 0, 1e-7);
  EXPECT_NEAR(logit_stats(std::vector<float>(40, -largest / 2)).log_sum, std::log(40.0), 1e-6);
  EXPECT_NEAR(logit_stats(std::vector<float>(40, largest)).log_sum, std::log(40.0), 1e-6);
}

TEST(Softmax, SeesEveryNonFiniteLogit) {
  for (const std::size_t size : {std::size_t{1}, std::size_t{16}, std::size_t{37}}) {
    for (std::size_t at = 0; at < size; ++at) {
      for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                              -std::numeric_limits<float>::infinity()}) {
        std::vector<float> logits(size, 1.5F);
        logits[at] = bad;
        ASSERT_FALSE(logit_stats(logits).finite) << size << ' ' << at << ' ' << bad;
      }
    }
  }
}

TEST(Softmax, KlDivergenceIsRight) {
  for (const std::size_t size : sizes) {
    for (const double spread : {0.1, 3.0}) {
      const auto a = random_logits(size, 3, "reference");
      auto b = random_logits(size, spread, "model");
      for (std::size_t i = 0; i < size; ++i) b[i] += a[i] + 100;  // the constant must not matter
      const auto log_sum_a = exact_log_sum(a) + *std::max_element(a.begin(), a.end());
      const auto log_sum_b = exact_log_sum(b) + *std::max_element(b.begin(), b.end());
      long double expected = 0;
      long double mean_difference = 0;
      for (std::size_t i = 0; i < size; ++i) {
        const long double p = std::exp(a[i] - log_sum_a);
        const long double difference = (a[i] - log_sum_a) - (b[i] - log_sum_b);
        expected += p * difference;
        mean_difference += p * std::fabs(difference);
      }
      ASSERT_NEAR(kl_divergence(a, logit_stats(a), b, logit_stats(b)), static_cast<double>(expected),
                  2e-6 * (1 + static_cast<double>(mean_difference)))
          << size << ' ' << spread;
      ASSERT_EQ(kl_divergence(a, logit_stats(a), a, logit_stats(a)), 0.0);
    }
  }
}

TEST(Softmax, FindsTheFirstMaximum) {
  for (const std::size_t size : sizes) {
    for (const std::size_t at : {std::size_t{0}, size / 2, size - 1}) {
      std::vector<float> logits(size, -1);
      logits[at] = 7;
      logits[size - 1] = 7;
      ASSERT_EQ(first_index_of(logits, 7), static_cast<std::int64_t>(at)) << size;
    }
  }
}

TEST(Softmax, TheFastDivergenceIsThatOfFloat64) {
  for (const std::size_t size : sizes) {
    const auto reference = random_logits(size, 3.0, "reference");
    std::vector<float> model = reference;
    const auto noise = random_logits(size, 0.3, "noise");
    for (std::size_t i = 0; i < size; ++i) model[i] += noise[i];
    const std::vector<double> exact_reference(reference.begin(), reference.end());
    const std::vector<double> exact_model(model.begin(), model.end());
    const double expected = kl_divergence(log_softmax(exact_reference), log_softmax(exact_model));
    const LogitStats reference_stats = logit_stats(reference);
    const LogitStats model_stats = logit_stats(model);
    EXPECT_NEAR(kl_divergence(reference, reference_stats, model, model_stats), expected, 4e-6) << size;
    EXPECT_EQ(first_index_of(model, model_stats.max), first_largest(exact_model)) << size;
    double sum = 0;
    for (const double log : log_softmax(exact_model)) sum += std::exp(log);
    EXPECT_NEAR(sum, 1, 1e-12) << size;
    if (size == 1) continue;
    const double reversed = kl_divergence(model, model_stats, reference, reference_stats);
    EXPECT_GT(std::fabs(reversed - expected), 4e-6) << size;
  }
}

}  // namespace
}  // namespace pq::eval
