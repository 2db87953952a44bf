#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/random.h"

namespace pq {

/// How the next token is chosen. The steps are those of Hugging Face `transformers`, in its order: repetition penalty,
/// temperature, top-k, top-p, min-p. (llama.cpp applies the temperature last, so that the same numbers mean something
/// else there.)
struct SamplingOptions {
  double temperature = 0.0;  ///< logits are divided by it; 0: always the likeliest token (greedy)
  std::int64_t top_k = 0;    ///< only the k likeliest; 0: all
  double top_p = 1.0;        ///< of those the fewest likeliest that have this probability together; 1: all
  double min_p = 0.0;        ///< of those the ones at least this share as likely as the likeliest; 0: all
  double repetition_penalty =
      1.0;  ///< positive logits of accepted tokens are divided by it, negative multiplied; 1: off
  std::int64_t repetition_window = 0;  ///< how many of the last accepted tokens the penalty sees; 0: all
  std::uint64_t seed = 0;              ///< the same seed, options and logits give the same tokens

  /// Throws InputError naming the flag of `pq run` for a value out of range.
  void validate() const;
};

/// Chooses tokens for one text. Every step is the same on every machine that has the same logits.
class Sampler {
 public:
  struct Choice {
    std::int32_t id;
    float probability;
  };

  /// Throws what options.validate() throws.
  explicit Sampler(const SamplingOptions& options);

  /// The next token for `logits` [vocab]; of equally likely ones the lowest id when greedy. -infinity rules a token
  /// out. Throws InputError for logits that are not a number or plus infinity, and when every token is ruled out.
  /// Nothing is accepted by itself.
  std::int32_t sample(std::span<const float> logits);
  /// Tokens of the text, prompt included, for the repetition penalty.
  void accept(std::int32_t token);
  void accept(std::span<const std::int32_t> tokens);

  /// What sample() draws from: the tokens that are left and their probabilities (sum 1), likeliest first (equal ones by
  /// id), or by id where more than 256 are left without top-k; one token when greedy. Valid until the next call. Throws
  /// as sample().
  const std::vector<Choice>& distribution(std::span<const float> logits);

 private:
  struct Candidate {
    float logit;
    std::int32_t id;
  };

  void load(std::span<const float> logits);
  void take_top(std::size_t count);
  void take_all();
  bool cut_at(double mass);
  void keep_top_p();
  void keep_min_p();
  float weight(float logit) const;

  SamplingOptions options_;
  Random random_;
  std::deque<std::int32_t> recent_;  // unused without a window
  std::unordered_map<std::int32_t, std::size_t> counts_;
  std::vector<float> scores_;  // [vocab] logits after the repetition penalty
  double inverse_temperature_ = 1;
  float max_score_ = 0;
  std::int32_t best_ = 0;
  std::vector<Candidate> candidates_;
  std::vector<Choice> choices_;
};

}  // namespace pq
