#include "generation/text_generation.h"

#include <fmt/format.h>

#include <stdexcept>
#include <utility>

#include "base/error.h"

namespace pq {

std::string_view finish_reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::end_of_text:
      return "end_of_text";
    case FinishReason::stop_string:
      return "stop_string";
    case FinishReason::max_tokens:
      return "max_tokens";
    case FinishReason::context:
      return "context";
    case FinishReason::interrupted:
      return "interrupted";
  }
  throw std::logic_error("no such finish reason");
}

void TextOptions::validate() const {
  sampling.validate();
  if (max_tokens < 0)
    throw InputError("--max-tokens", fmt::format("{} is out of range", max_tokens), "choose 0 (no limit) or more");
  const StopStrings checked(stop);
}

std::set<std::int32_t> end_tokens(std::span<const std::int64_t> model_ids, std::int64_t vocab_size,
                                  const Tokenizer& tokenizer) {
  std::set<std::int32_t> ids;
  for (const std::int64_t id : model_ids) {
    if (id >= 0 && id < vocab_size) ids.insert(static_cast<std::int32_t>(id));
  }
  if (const auto id = tokenizer.eos_id()) ids.insert(*id);
  for (const char* token : {"<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|im_end|>", "<|endoftext|>", "</s>"}) {
    const auto id = tokenizer.id_of(token);
    if (id && tokenizer.is_special(*id)) ids.insert(*id);
  }
  return ids;
}

TextGeneration::TextGeneration(const Tokenizer& tokenizer, std::set<std::int32_t> end_tokens,
                               const TextOptions& options, std::span<const std::int32_t> prompt, bool with_prompt)
    : max_tokens_(options.max_tokens), sampler_(options.sampling), decoder_(tokenizer, true), stop_(options.stop) {
  options.validate();
  if (!options.ignore_end_tokens) end_tokens_ = std::move(end_tokens);
  sampler_.accept(prompt);
  if (!with_prompt) return;
  for (const std::int32_t token : prompt) decoder_.push(token);
}

std::string TextGeneration::push(std::span<const float> logits) {
  require_unfinished();
  const std::int32_t token = sampler_.sample(logits);
  if (end_tokens_.contains(token)) return finish(FinishReason::end_of_text);
  tokens_.push_back(token);
  sampler_.accept(token);
  std::string shown = stop_.push(decoder_.push(token));
  text_ += shown;
  if (stop_.stopped()) {
    reason_ = FinishReason::stop_string;
  } else if (static_cast<std::int64_t>(tokens_.size()) == max_tokens_) {
    shown += finish(FinishReason::max_tokens);
  }
  return shown;
}

std::string TextGeneration::finish(FinishReason reason) {
  require_unfinished();
  std::string shown = stop_.push(decoder_.finish());
  shown += stop_.finish();
  text_ += shown;
  reason_ = stop_.stopped() ? FinishReason::stop_string : reason;
  return shown;
}

void TextGeneration::require_unfinished() const {
  if (finished()) throw std::logic_error("the text is finished");
}

}  // namespace pq
