#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "generation/sampler.h"
#include "program/command_line.h"
#include "runtime/session.h"
#include "tokenizer/tokenizer.h"

namespace pq::cli {

/// What `pq run` and `pq chat` have in common.
struct GenerationOptions {
  std::string model;
  runtime::SamplingOptions sampling;
  std::int64_t max_tokens = 0;  ///< generated for one prompt; 0: until the context is full
  std::int64_t context = 0;     ///< tokens of prompt and answer together; 0: as many as the model was trained on
  int lm_head_bits = 16;
  bool ignore_eos = false;
  std::vector<std::string> stop;

  /// Throws InputError naming the flag.
  void validate() const;
};

/// Declares MODEL and all flags, with the defaults that `options` holds now.
void add_generation_options(CLI::App& app, GenerationOptions& options);

struct Generation {
  std::string text;  ///< without the stop string
  std::vector<std::int32_t> tokens;
  std::string stop_reason;  ///< "end_of_text", "stop_string", "max_tokens", "context" or "interrupted"
  std::string stop_string;  ///< the one that was met
  std::int64_t prompt_tokens = 0;
  std::int64_t cached_tokens = 0;   ///< of the prompt, those that were in the KV cache already
  std::int64_t decoded_tokens = 0;  ///< run through the model one by one: all generated ones but the last
  double prefill_seconds = 0;
  double decode_seconds = 0;

  Json json(const Tokenizer& tokenizer) const;
  /// "12 prompt tokens at 345.6 tokens/s, 100 tokens at 62.1 tokens/s".
  std::string summary() const;
};

/// A model with one session, which keeps its KV cache from prompt to prompt.
class Generator {
 public:
  /// Loads the model. Throws what that throws.
  Generator(const GenerationOptions& options, Tokenizer tokenizer);

  /// Continues `prompt`: what it has in common with the tokens in the cache is not run again. `on_text` gets the text
  /// piece by piece. Ctrl-C while tokens are generated ends the text, not the process. `with_prompt`: the text goes on
  /// where the prompt's ends (a first space is kept). Throws InputError for a prompt without tokens or longer than the
  /// context; `where` names it.
  Generation run(std::span<const std::int32_t> prompt, bool with_prompt, std::string_view where,
                 const std::function<void(std::string_view)>& on_text);

  std::int64_t context() const { return session_.capacity(); }

 private:
  void prefill(std::span<const std::int32_t> prompt, std::string_view where, Generation& generation);

  GenerationOptions options_;
  Tokenizer tokenizer_;
  std::shared_ptr<const runtime::Model> model_;
  runtime::Session session_;
  std::vector<std::int32_t> held_;  // the tokens in the session
  std::set<std::int32_t> end_ids_;
};

/// Throws InputError, naming `where`, for text that is not UTF-8.
void require_utf8(std::string_view text, std::string_view where);

/// Shows a piece of text at once.
void print_now(std::string_view text);

}  // namespace pq::cli
