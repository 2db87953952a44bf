#include "eval/evaluation_text.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>

#include "base/error.h"
#include "base/files.h"
#include "base/log.h"
#include "text/documents.h"

namespace pq::eval {

void EvaluationText::add_options(CLI::App& app) {
  app.add_option("--text", path, "Text to evaluate on, plain or gzip, taken verbatim")->option_text("FILE");
  app.add_option("--length", length, "Tokens a chunk (default 2048, or the model's context where that is shorter)")
      ->check(CLI::Range(2, 1 << 24));
  app.add_option("--max-chunks", max_chunks, "Evaluate only the first N chunks (default: all)")
      ->check(CLI::NonNegativeNumber);
  app.add_flag("--wikitext-join", wikitext_join,
               "Join the rows of a raw WikiText file by blank lines first, as papers do");
}

void EvaluationText::require() const {
  if (path.empty()) throw InputError("--text", "is required", "give the text to evaluate on, or --tasks");
}

std::vector<std::int32_t> EvaluationText::load(const Tokenizer& tokenizer, const ModelSpec& spec) {
  if (length == 0) length = std::min<std::int64_t>(2048, spec.max_positions);
  if (length > spec.max_positions)
    log_warning("--length {} is beyond the model's context of {} tokens", length, spec.max_positions);
  std::string text = read_text_file(path);
  require_utf8(text, path);
  if (begins_as_json(text)) log_warning("{}: looks like JSON and is evaluated as it stands, not the texts in it", path);
  if (wikitext_join) text = join_wikitext(text);
  std::vector<std::int32_t> stream;
  try {
    stream = tokenize_text(tokenizer, text);
  } catch (const InputError& error) {
    throw InputError(path, error.what());
  }
  if (static_cast<std::int64_t>(stream.size()) < length) {
    throw InputError(path, fmt::format("has {} tokens, less than one chunk of {}", stream.size(), length),
                     "give a longer text, or a smaller --length");
  }
  return stream;
}

PerplexityOptions EvaluationText::options() const {
  PerplexityOptions options;
  options.length = length;
  options.max_chunks = max_chunks;
  return options;
}

}  // namespace pq::eval
