#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tasks/document.h"
#include "tokenizer/tokenizer.h"

namespace pq::tasks {

/// Whether a BOS stands in front of a context: as the tokenizer does it by itself (what lm-evaluation-harness does
/// since 0.4.9.2), always, or never (before, and in papers of that time).
enum class Bos { automatic, yes, no };

/// A prompt in tokens: the model reads `input`, and behind its last `targets.size()` tokens the targets are scored.
struct Request {
  Request(std::vector<std::int32_t> tokens, std::vector<std::int32_t> scored)
      : input(std::make_shared<const std::vector<std::int32_t>>(std::move(tokens))), targets(std::move(scored)) {}

  std::shared_ptr<const std::vector<std::int32_t>> input;  ///< choices of one token share theirs
  std::vector<std::int32_t> targets;
  bool truncated = false;  ///< the context was cut from the left
};

/// Prompts to tokens, by the rules of lm-evaluation-harness's Hugging Face backend.
class RequestEncoder {
 public:
  /// `max_length`: tokens that the model reads at most. Throws InputError for Bos::yes and a tokenizer without a BOS.
  RequestEncoder(const Tokenizer& tokenizer, Bos bos, std::int64_t max_length);

  /// Whether a BOS stands in front.
  bool adds_bos() const { return adds_bos_; }

  /// White space at the end of the context goes to the continuation; context and whole are encoded, and what the whole
  /// has beyond the context's tokens is scored. An empty context is the BOS, or the EOS. Throws FormatError naming
  /// document.where and the prompt: a continuation without a token, or longer than the model's context.
  std::vector<Request> encode(const Document& document) const;
  /// All of a page's tokens, in windows of max_length that each predict what the one before did not: the first behind
  /// the BOS (or EOS).
  std::vector<Request> encode_page(const Document& document) const;

 private:
  std::vector<std::int32_t> tokens_of(std::string_view text) const;
  std::int32_t prefix_token(const Document& document) const;
  Request request_of(const Document& document, std::size_t prompt, std::vector<std::int32_t> context,
                     std::vector<std::int32_t> continuation) const;

  const Tokenizer& tokenizer_;
  bool adds_bos_;
  std::int64_t max_length_;
};

}  // namespace pq::tasks
