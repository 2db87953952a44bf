#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "eval/windows.h"
#include "model/language_model.h"

namespace pq {
class Tokenizer;
}

namespace pq::eval {

/// The text as one stream of token ids, BOS before it where the tokenizer adds one (ALGORITHM.md section 8).
std::vector<std::int32_t> tokenize_text(const Tokenizer& tokenizer, std::string_view text);

/// The text of a WikiText raw file as the paper evaluates on it: "\n\n".join(rows) of the rows that the `datasets`
/// library gives for wikitext-2-raw-v1. Every line of the file is a row. A row keeps its leading space and its trailing
/// "\n", and is empty when the line holds nothing but white space. So "a\n \nb\n" becomes "a\n\n\n\n\nb\n".
std::string join_wikitext(std::string_view text);

struct PerplexityResult {
  double perplexity = 0;
  double mean_nll = 0;      ///< natural logarithm; perplexity = exp(mean_nll)
  std::int64_t chunks = 0;  ///< windows
  std::int64_t tokens = 0;  ///< predicted
  double seconds = 0;       ///< wall time of this model's runs, logits and scores; of the slowest rank
};

/// Perplexity of `stream` cut into windows (by default floor(N / length) chunks, the tail dropped), each behind the
/// model's own prefix: the weighted mean over windows of the mean negative log-likelihood of a window's predictions,
/// exponentiated. Sums are float64; the result does not depend on batch_tokens or on the number of threads, as long as
/// the logits do not. Under mpirun every rank calls this with the same arguments, runs its own part of the windows and
/// gets the same result, equal to a single process's but for the order of float64 sums. Throws InputError (what Windows
/// throws; a token outside the vocabulary), FormatError (a logit that is not finite, with its window and position).
PerplexityResult perplexity(LanguageModel& model, std::span<const std::int32_t> stream,
                            const PerplexityOptions& options);

struct ComparisonResult : PerplexityResult {
  double kl_divergence = 0;   ///< mean over the predicted positions of KL(reference || model), in nats
  double top1_agreement = 0;  ///< share of them where both models' most likely tokens are equal (ties: the lowest id)
};

/// Perplexity of every model and its distance from `reference`, over the same windows in one pass, which ranks share
/// as in perplexity(). The reference itself may be among the models: it is run once, and its distance is 0. Results are
/// in the order of `models`. Throws what perplexity() throws, and InputError when vocabulary sizes differ.
std::vector<ComparisonResult> compare_models(LanguageModel& reference, std::span<LanguageModel* const> models,
                                             std::span<const std::int32_t> stream, const PerplexityOptions& options);

}  // namespace pq::eval
