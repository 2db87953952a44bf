#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "cli/interrupt_note.h"
#include "generation/text_generation.h"
#include "program/command_line.h"
#include "runtime/session.h"
#include "text/documents.h"
#include "tokenizer/tokenizer.h"

namespace pq::cli {

/// What `pq run` and `pq chat` have in common.
struct GenerationOptions {
  std::string model;
  TextOptions text;          ///< max_tokens: 0 goes on until the context is full
  std::int64_t context = 0;  ///< tokens of prompt and answer together; 0: as many as the model was trained on
  int lm_head_bits = 16;

  /// Throws InputError naming the flag.
  void validate() const;
};

/// Declares MODEL and all flags, with the defaults that `options` holds now.
void add_generation_options(CLI::App& app, GenerationOptions& options);

/// What became of one prompt.
struct Generation {
  std::string text;  ///< without the stop string
  std::vector<std::int32_t> tokens;
  FinishReason finish_reason = FinishReason::end_of_text;
  std::string stop_string;  ///< the one that was met
  int signal = 0;           ///< that ended the text: SIGINT, SIGTERM
  std::int64_t prompt_tokens = 0;
  std::int64_t cached_tokens = 0;   ///< of the prompt, those that were in the KV cache already
  std::int64_t decoded_tokens = 0;  ///< run through the model one by one: all generated ones but the last
  double prefill_seconds = 0;
  double decode_seconds = 0;

  Json json(const Tokenizer& tokenizer) const;
  /// "12 prompt tokens at 345.6 tokens/s, 100 tokens at 62.1 tokens/s".
  std::string summary() const;
};

/// A model with one session, which keeps its KV cache from prompt to prompt, in front of a terminal.
class Generator {
 public:
  /// Loads the model. With common.json nothing is written to stdout. Throws what Model::load throws.
  Generator(const GenerationOptions& options, const CommonOptions& common, Tokenizer tokenizer);

  /// Continues `prompt`: what it has in common with the tokens in the cache is not run again. The text goes to stdout
  /// piece by piece and ends with a newline. Ctrl-C (or SIGTERM) ends the text, a second one the process.
  /// `with_prompt`: the text goes on where the prompt's ends (a first space is kept). Throws InputError for a prompt
  /// without tokens or longer than the context; `where` names it.
  Generation run(std::span<const std::int32_t> prompt, bool with_prompt, std::string_view where);

  std::int64_t context() const { return session_.capacity(); }
  /// Tokens of the context that prompt and answer take.
  std::int64_t context_used() const { return session_.length(); }

 private:
  void prefill(std::span<const std::int32_t> prompt, std::string_view where, Generation& generation);
  void decode(TextGeneration& text, const InterruptNote& interrupt, Generation& generation);
  void show(std::string_view piece) const;

  GenerationOptions options_;
  bool shows_text_;
  Tokenizer tokenizer_;
  std::shared_ptr<const runtime::Model> model_;
  runtime::Session session_;
  std::vector<std::int32_t> held_;  // the tokens in the session
  std::set<std::int32_t> end_tokens_;
};

}  // namespace pq::cli
