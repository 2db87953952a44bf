#include "cli/generation.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>

#include "base/error.h"
#include "base/log.h"
#include "base/phase_timer.h"
#include "program/output.h"

namespace pq::cli {
namespace {

runtime::Session new_session(const std::shared_ptr<const runtime::Model>& model, const GenerationOptions& options) {
  const std::int64_t trained = model->spec().max_positions;
  if (options.context > trained)
    log_warning("--context {} is beyond the {} tokens that the model was trained on", options.context, trained);
  return {model, options.context > 0 ? options.context : trained};
}

double rate(std::int64_t tokens, double seconds) { return seconds > 0 ? static_cast<double>(tokens) / seconds : 0; }

}  // namespace

void GenerationOptions::validate() const {
  text.validate();
  if (context < 0)
    throw InputError("--context", fmt::format("{} is out of range", context), "choose 0 (the model's own) or more");
}

void add_generation_options(CLI::App& app, GenerationOptions& options) {
  app.add_option("MODEL", options.model,
                 "Quantized checkpoint or Hugging Face model: a directory, a GGUF file, or org/name in the local cache")
      ->required();
  app.add_option("-n,--max-tokens", options.text.max_tokens, "Tokens to generate at most; 0: until the context is full")
      ->option_text(fmt::format("N (default {})", options.text.max_tokens));
  app.add_option("--context", options.context, "Tokens that prompt and answer may have together; 0: the model's own")
      ->option_text("N (default 0)");
  app.add_option("--stop", options.text.stop, "Ends the text where this string comes up; may be given several times")
      ->option_text("TEXT")
      ->allow_extra_args(false);
  app.add_flag("--ignore-eos", options.text.ignore_end_tokens, "Goes on after the token that ends a text");
  app.add_option("--lm-head-bits", options.lm_head_bits,
                 "16: output layer as in the checkpoint; 8: int8 per token of the vocabulary, faster")
      ->check(CLI::IsMember({8, 16}))
      ->option_text("8|16 (default 16)");
  const std::string group = "Sampling (in this order, as Hugging Face transformers does it)";
  SamplingOptions& sampling = options.text.sampling;
  const auto add = [&](const char* flag, auto& value, std::string_view unit, const char* help) {
    app.add_option(flag, value, help)->option_text(fmt::format("{} (default {})", unit, value))->group(group);
  };
  add("--repetition-penalty", sampling.repetition_penalty, "X",
      "Makes tokens that the text has already less likely; 1: off");
  add("--repetition-window", sampling.repetition_window, "N",
      "How many of the last tokens that penalty looks at; 0: all");
  add("--temperature", sampling.temperature, "X", "0: always the likeliest token; 1: as the model says");
  add("--top-k", sampling.top_k, "N", "Only the N likeliest tokens; 0: all");
  add("--top-p", sampling.top_p, "X", "Only the likeliest tokens that have probability X together; 1: all");
  add("--min-p", sampling.min_p, "X", "Only tokens at least X times as likely as the likeliest; 0: all");
  add("--seed", sampling.seed, "N", "The same seed gives the same text");
}

Json Generation::json(const Tokenizer& tokenizer) const {
  Json token_texts = Json::array();
  for (const std::int32_t token : tokens) token_texts.push_back(tokenizer.token_text(token));
  Json result{{"text", text},
              {"token_ids", tokens},
              {"tokens", std::move(token_texts)},
              {"stop_reason", finish_reason_name(finish_reason)}};
  if (!stop_string.empty()) result["stop_string"] = stop_string;
  result["prompt_tokens"] = prompt_tokens;
  result["cached_tokens"] = cached_tokens;
  result["prefill_seconds"] = prefill_seconds;
  result["decode_seconds"] = decode_seconds;
  result["prefill_tokens_per_second"] = rate(prompt_tokens - cached_tokens, prefill_seconds);
  result["decode_tokens_per_second"] = decoded_tokens > 0 ? Json(rate(decoded_tokens, decode_seconds)) : Json(nullptr);
  return result;
}

std::string Generation::summary() const {
  const auto count = [](std::int64_t n, std::string_view noun) {
    return fmt::format("{} {}{}", n, noun, n == 1 ? "" : "s");
  };
  const std::int64_t run_tokens = prompt_tokens - cached_tokens;
  std::string line = count(run_tokens, "prompt token");
  if (cached_tokens > 0) line += fmt::format(" (and {} cached)", cached_tokens);
  line += fmt::format(" at {:.1f} tokens/s, ", rate(run_tokens, prefill_seconds));
  line += fmt::format("{} generated", count(static_cast<std::int64_t>(tokens.size()), "token"));
  if (decoded_tokens > 0) line += fmt::format(" at {:.1f} tokens/s", rate(decoded_tokens, decode_seconds));
  if (finish_reason == FinishReason::max_tokens) line += " (--max-tokens reached)";
  if (finish_reason == FinishReason::context) line += " (the context is full)";
  if (finish_reason == FinishReason::interrupted) line += " (interrupted)";
  return line;
}

Generator::Generator(const GenerationOptions& options, const CommonOptions& common, Tokenizer tokenizer)
    : options_(options),
      shows_text_(!common.json),
      tokenizer_(std::move(tokenizer)),
      model_(runtime::Model::load(options.model, {.lm_head_bits = options.lm_head_bits, .context = options.context})),
      session_(new_session(model_, options)),
      end_tokens_(end_tokens(model_->spec().eos_token_ids, model_->spec().vocab_size, tokenizer_)) {}

void Generator::prefill(std::span<const std::int32_t> prompt, std::string_view where, Generation& generation) {
  const auto size = static_cast<std::int64_t>(prompt.size());
  if (prompt.empty())
    throw InputError(where, "the prompt is empty, and the tokenizer adds no BOS", "give the text to start from");
  if (size > context()) {
    throw InputError(where, fmt::format("has {} tokens, but the context holds {}", size, context()),
                     "shorten it, or raise --context");
  }
  const auto common =
      std::mismatch(prompt.begin(), prompt.end() - 1, held_.begin(), held_.end()).first - prompt.begin();
  const PhaseTimer timer("prefill");
  session_.truncate(common);
  held_.resize(static_cast<std::size_t>(common));
  session_.append(prompt.subspan(static_cast<std::size_t>(common)));
  held_.assign(prompt.begin(), prompt.end());
  session_.logits();
  generation.prefill_seconds = timer.seconds();
  generation.prompt_tokens = size;
  generation.cached_tokens = common;
}

void Generator::decode(TextGeneration& text, const InterruptNote& interrupt, Generation& generation) {
  const PhaseTimer timer("decode");
  while (true) {
    show(text.push(session_.logits()));
    if (text.finished()) break;
    if (session_.length() == session_.capacity()) {
      show(text.finish(FinishReason::context));
      break;
    }
    if (interrupt.signal() != 0) {
      show(text.finish(FinishReason::interrupted));
      break;
    }
    const std::int32_t token = text.tokens().back();
    session_.append({&token, 1});
    held_.push_back(token);
    ++generation.decoded_tokens;
  }
  generation.decode_seconds = timer.seconds();
}

Generation Generator::run(std::span<const std::int32_t> prompt, bool with_prompt, std::string_view where) {
  Generation generation;
  const InterruptNote interrupt;
  prefill(prompt, where, generation);
  TextGeneration text(tokenizer_, end_tokens_, options_.text, prompt, with_prompt);
  decode(text, interrupt, generation);
  show("\n");
  generation.text = text.text();
  generation.tokens = text.tokens();
  generation.finish_reason = *text.finish_reason();
  generation.stop_string = text.stop_string();
  generation.signal = generation.finish_reason == FinishReason::interrupted ? interrupt.signal() : 0;
  return generation;
}

void Generator::show(std::string_view piece) const {
  if (shows_text_ && !piece.empty()) stream_result(piece);
}

}  // namespace pq::cli
