#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

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

struct PerplexityOptions {
  std::int64_t length = 2048;        ///< tokens a chunk, 2 or more; the prefix comes on top
  std::int64_t batch_tokens = 4096;  ///< run as many whole chunks together as fit in this many tokens; at least one
  std::int64_t max_chunks = 0;       ///< evaluate the first ones only; 0: all
};

struct PerplexityResult {
  double perplexity = 0;
  double mean_nll = 0;  ///< natural logarithm; perplexity = exp(mean_nll)
  std::int64_t chunks = 0;
  std::int64_t tokens = 0;  ///< tokens predicted: chunks * (length - 1)
  double seconds = 0;       ///< wall time of this model's runs, logits and scores; of the slowest rank
};

/// Perplexity of `stream` cut into floor(N / length) chunks, the tail dropped, each chunk behind the model's own
/// prefix: the mean over chunks of the mean negative log-likelihood of a chunk's length - 1 predictions, exponentiated.
/// Sums are float64; the result does not depend on batch_tokens or on the number of threads, as long as the logits do
/// not. Under mpirun every rank calls this with the same arguments, runs its own part of the chunks and gets the same
/// result, equal to a single process's but for the order of float64 sums. Throws InputError (options; a token outside
/// the vocabulary; a stream shorter than one chunk), FormatError (a logit that is not finite, with its chunk and
/// position).
PerplexityResult perplexity(LanguageModel& model, std::span<const std::int32_t> stream,
                            const PerplexityOptions& options);

struct ComparisonResult : PerplexityResult {
  double kl_divergence = 0;   ///< mean over the predicted positions of KL(reference || model), in nats
  double top1_agreement = 0;  ///< share of them where both models' most likely tokens are equal (ties: the lowest id)
};

/// Perplexity of every model and its distance from `reference`, over the same chunks in one pass, which ranks share as
/// in perplexity(). The reference itself
/// may be among the models: it is run once, and its distance is 0. Results are in the order of `models`. Throws what
/// perplexity() throws, and InputError when vocabulary sizes differ.
std::vector<ComparisonResult> compare_models(LanguageModel& reference, std::span<LanguageModel* const> models,
                                             std::span<const std::int32_t> stream, const PerplexityOptions& options);

}  // namespace pq::eval
