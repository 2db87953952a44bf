#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "base/random.h"
#include "model/language_model.h"

namespace pq::eval {

// Logits are a table: row t follows token t. What it predicts can be computed by hand.
class BigramModel : public LanguageModel {
 public:
  BigramModel(std::int64_t vocab_size, std::uint64_t seed, std::int64_t prefix_length = 0) : prefix_(prefix_length) {
    spec_.vocab_size = vocab_size;
    Random random(seed, "bigram");
    table_.resize(static_cast<std::size_t>(vocab_size * vocab_size));
    for (auto& logit : table_) logit = static_cast<float>(2 * random.normal());
  }

  const ModelSpec& spec() const override { return spec_; }
  std::int64_t prefix_length() const override { return prefix_; }
  void run(std::span<const std::int32_t> tokens, std::int64_t sequences) override {
    tokens_.assign(tokens.begin(), tokens.end());
    batches.push_back(sequences);
    tokens_run += static_cast<std::int64_t>(tokens.size());
  }
  void logits(std::int64_t first, std::int64_t count, std::span<float> out) override {
    const auto vocab = static_cast<std::size_t>(spec_.vocab_size);
    ASSERT_EQ(out.size(), static_cast<std::size_t>(count) * vocab);
    for (std::size_t row = 0; row < static_cast<std::size_t>(count); ++row) {
      const auto token = static_cast<std::size_t>(tokens_.at(static_cast<std::size_t>(first) + row));
      std::copy_n(table_.begin() + static_cast<std::ptrdiff_t>(token * vocab), vocab,
                  out.begin() + static_cast<std::ptrdiff_t>(row * vocab));
    }
  }

  float& logit(std::int32_t after, std::int32_t token) {
    return table_[static_cast<std::size_t>(after * spec_.vocab_size + token)];
  }
  std::vector<long double> log_probabilities(std::int32_t after) {
    long double sum = 0;
    for (std::int32_t i = 0; i < spec_.vocab_size; ++i) sum += std::exp(static_cast<long double>(logit(after, i)));
    std::vector<long double> out;
    for (std::int32_t i = 0; i < spec_.vocab_size; ++i) out.push_back(logit(after, i) - std::log(sum));
    return out;
  }
  std::int32_t top1(std::int32_t after) {
    const float* row = &logit(after, 0);
    return static_cast<std::int32_t>(std::max_element(row, row + spec_.vocab_size) - row);
  }

  std::vector<std::int64_t> batches;
  std::int64_t tokens_run = 0;

 private:
  ModelSpec spec_;
  std::int64_t prefix_;
  std::vector<float> table_;
  std::vector<std::int32_t> tokens_;
};

inline std::vector<std::int32_t> random_stream(std::size_t count, std::int64_t vocab_size) {
  Random random(5, "stream");
  std::vector<std::int32_t> stream(count);
  for (auto& token : stream) token = static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(vocab_size)));
  return stream;
}

}  // namespace pq::eval
