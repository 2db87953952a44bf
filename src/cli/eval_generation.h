#pragma once

#include <cstdint>
#include <string>

#include "program/command_line.h"
#include "runtime/model_options.h"

namespace pq::cli {

/// `pq eval --generate`: greedy continuations of prompts out of a text, by a model and beside it by the unquantized
/// one.
struct GenerationEvaluation {
  std::int64_t prompts = 0;  ///< 0: no generation
  std::int64_t prompt_tokens = 32;
  std::int64_t max_tokens = 128;

  void add_options(CLI::App& app);
};

/// The text is cut into `prompts` pieces of equal length, and the first tokens of each are a prompt, behind BOS where
/// the tokenizer adds one. `against`: the unquantized model, or empty. Prints the result. Throws InputError for a text
/// that is too short, or models of different vocabularies, and what loading a model throws.
int evaluate_generation(const GenerationEvaluation& options, const std::string& model, const std::string& against,
                        const std::string& text, const runtime::ModelOptions& runtime, const CommonOptions& common);

}  // namespace pq::cli
