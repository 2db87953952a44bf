#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "generation/sampler.h"
#include "generation/stop_strings.h"
#include "tokenizer/tokenizer.h"

namespace pq {

enum class FinishReason {
  end_of_text,  ///< the model chose a token that ends a text or a turn
  stop_string,  ///< the text came to a stop string
  max_tokens,   ///< as many tokens as were asked for
  context,      ///< no place for another token; said by whoever runs the model
  interrupted,  ///< somebody wants no more of it; said by whoever runs the model
};

/// "end_of_text" and so on.
std::string_view finish_reason_name(FinishReason reason);

/// How a text is generated, whatever computes the logits.
struct TextOptions {
  SamplingOptions sampling;
  std::int64_t max_tokens = 0;     ///< to generate at most; 0: no limit
  std::vector<std::string> stop;   ///< each ends the text where it comes up, and is not shown
  bool ignore_end_tokens = false;  ///< goes on after a token that ends a text

  /// Throws InputError naming the flag of `pq run` for a value out of range.
  void validate() const;
};

/// Tokens that end a text or a turn: `model_ids`, those that the model's files name (ids outside its vocabulary are
/// left out), the tokenizer's EOS, and the special tokens that chat models end a turn with.
std::set<std::int32_t> end_tokens(std::span<const std::int64_t> model_ids, std::int64_t vocab_size,
                                  const Tokenizer& tokenizer);

/// One text that is being generated: logits in, whole UTF-8 characters out. It runs no model, so that any engine can
/// feed it:
///
///     TextGeneration text(tokenizer, end_tokens, options, prompt, false);
///     while (show(text.push(session.logits())), !text.finished()) session.append(text.tokens().back());
class TextGeneration {
 public:
  /// `prompt`: the tokens that the text comes after, for the repetition penalty. `with_prompt`: the text goes on where
  /// the prompt's ends (a first space is kept), instead of starting anew. Throws what options.validate() throws.
  TextGeneration(const Tokenizer& tokenizer, std::set<std::int32_t> end_tokens, const TextOptions& options,
                 std::span<const std::int32_t> prompt, bool with_prompt);

  /// Chooses the next token for `logits` [vocab] and returns what can be shown now: whole characters, without an end
  /// that may become a stop string. Unless the text is finished() by it, tokens().back() is what the model goes on
  /// with. Throws as Sampler::sample, and std::logic_error once finished().
  std::string push(std::span<const float> logits);
  /// Ends the text from outside; returns what was held back. Half a character becomes U+FFFD. What was held back may
  /// hold a stop string, which then is the reason. Throws std::logic_error once finished().
  std::string finish(FinishReason reason);

  bool finished() const noexcept { return reason_.has_value(); }
  /// Without a value until finished().
  std::optional<FinishReason> finish_reason() const noexcept { return reason_; }
  /// The stop string that was met; empty without one.
  const std::string& stop_string() const noexcept { return stop_.met(); }
  /// All that was returned so far.
  const std::string& text() const noexcept { return text_; }
  /// Those that were chosen, without one that ended the text.
  const std::vector<std::int32_t>& tokens() const noexcept { return tokens_; }

 private:
  void require_unfinished() const;

  std::set<std::int32_t> end_tokens_;  // empty when they are ignored
  std::int64_t max_tokens_;
  Sampler sampler_;
  StreamDecoder decoder_;
  StopStrings stop_;
  std::vector<std::int32_t> tokens_;
  std::string text_;
  std::optional<FinishReason> reason_;
};

}  // namespace pq
