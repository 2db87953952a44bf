#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "eval/perplexity.h"
#include "model/model_spec.h"
#include "tokenizer/tokenizer.h"

namespace CLI {
class App;
}

namespace pq::eval {

/// The text that a verb evaluates on, and the windows that it is cut into.
struct EvaluationText {
  std::string path;
  std::vector<std::int64_t> lengths;  ///< tokens a window, one pass each; empty: 2048, or the model's shorter context
  std::int64_t max_chunks = 0;        ///< 0: all
  std::int64_t stride = 0;            ///< 0: windows do not overlap
  bool llama_cpp_chunks = false;
  bool wikitext_join = false;

  void add_options(CLI::App& app);
  /// Throws InputError where no text was given.
  void require() const;
  /// Tokens of the text; throws InputError when they do not fill one chunk of every length. Fixes `lengths`.
  std::vector<std::int32_t> load(const Tokenizer& tokenizer, const ModelSpec& spec);
  /// Of each length, after load().
  std::vector<PerplexityOptions> passes() const;
  /// "20 chunks of 2048 tokens", and how they were cut.
  std::string described(const PerplexityResult& result, std::int64_t length) const;

 private:
  std::optional<std::int32_t> bos_;  // for llama.cpp's chunks
};

}  // namespace pq::eval
