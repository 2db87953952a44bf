#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "eval/perplexity.h"
#include "model/model_spec.h"
#include "tokenizer/tokenizer.h"

namespace CLI {
class App;
}

namespace pq::eval {

/// The text that a verb evaluates on.
struct EvaluationText {
  std::string path;
  std::int64_t length = 0;      ///< tokens a chunk; 0: 2048, or the model's context where that is shorter
  std::int64_t max_chunks = 0;  ///< 0: all
  bool wikitext_join = false;

  void add_options(CLI::App& app);
  /// Throws InputError where no text was given.
  void require() const;
  /// Tokens of the text; throws InputError when they do not fill one chunk. Fixes `length`.
  std::vector<std::int32_t> load(const Tokenizer& tokenizer, const ModelSpec& spec);
  PerplexityOptions options() const;
};

}  // namespace pq::eval
