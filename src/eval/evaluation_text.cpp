#include "eval/evaluation_text.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>

#include "base/error.h"
#include "base/files.h"
#include "base/log.h"
#include "text/documents.h"

namespace pq::eval {

namespace {

constexpr std::int64_t longest = 1 << 24;

}  // namespace

void EvaluationText::add_options(CLI::App& app) {
  app.add_option("--text", path, "Text to evaluate on, plain or gzip, taken verbatim")->option_text("FILE");
  app.add_option("--length", lengths,
                 "Tokens a chunk, several for a result each (default 2048, or the model's context where that is "
                 "shorter)")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::Range(std::int64_t{2}, longest))
      ->option_text("N,..");
  app.add_option("--max-chunks", max_chunks, "Evaluate only the first N chunks (default: all)")
      ->check(CLI::NonNegativeNumber);
  CLI::Option* overlapping =
      app.add_option("--stride", stride,
                     "Overlapping windows, each N tokens behind the one before, of which only the new tokens are "
                     "scored, as in the perplexity guide of Hugging Face")
          ->check(CLI::Range(std::int64_t{1}, longest))
          ->option_text("N");
  app.add_flag("--llama-cpp-chunks", llama_cpp_chunks,
               "Score the second half of each chunk and put BOS in place of its first token, as llama.cpp's "
               "llama-perplexity does")
      ->excludes(overlapping);
  app.add_flag("--wikitext-join", wikitext_join,
               "Join the rows of a raw WikiText file by blank lines first, as papers do");
}

void EvaluationText::require() const {
  if (path.empty()) throw InputError("--text", "is required", "give the text to evaluate on, or --tasks");
}

std::vector<std::int32_t> EvaluationText::load(const Tokenizer& tokenizer, const ModelSpec& spec) {
  if (lengths.empty()) lengths = {std::min<std::int64_t>(2048, spec.max_positions)};
  for (const std::int64_t length : lengths) {
    if (length > spec.max_positions)
      log_warning("--length {} is beyond the model's context of {} tokens", length, spec.max_positions);
  }
  std::string text = read_text_file(path);
  require_utf8(text, path);
  if (begins_as_json(text)) log_warning("{}: looks like JSON and is evaluated as it stands, not the texts in it", path);
  if (wikitext_join) text = join_wikitext(text);
  if (llama_cpp_chunks) {
    if (tokenizer.adds_bos()) bos_ = tokenizer.bos_id();
    if (text.ends_with('\n')) text.pop_back();  // as llama.cpp reads a file
  }
  std::vector<std::int32_t> stream;
  try {
    stream = tokenize_text(tokenizer, text);
  } catch (const InputError& error) {
    throw InputError(path, error.what());
  }
  const std::int64_t longest_chunk = *std::max_element(lengths.begin(), lengths.end());
  if (stride == 0 && static_cast<std::int64_t>(stream.size()) < longest_chunk) {
    throw InputError(path, fmt::format("has {} tokens, less than one chunk of {}", stream.size(), longest_chunk),
                     "give a longer text, or a smaller --length");
  }
  for (const PerplexityOptions& pass : passes()) Windows(stream, pass);  // throws before anything long runs
  return stream;
}

std::vector<PerplexityOptions> EvaluationText::passes() const {
  std::vector<PerplexityOptions> all;
  for (const std::int64_t length : lengths) {
    PerplexityOptions options;
    options.length = length;
    options.max_chunks = max_chunks;
    options.stride = stride;
    options.windowing = stride > 0 ? Windowing::stride : llama_cpp_chunks ? Windowing::llama_cpp : Windowing::chunks;
    options.bos = bos_;
    all.push_back(options);
  }
  return all;
}

std::string EvaluationText::described(const PerplexityResult& result, std::int64_t length) const {
  const char* const plural = result.chunks == 1 ? "" : "s";
  if (stride > 0) return fmt::format("{} window{} of {} tokens, stride {}", result.chunks, plural, length, stride);
  return fmt::format("{} chunk{} of {} tokens{}", result.chunks, plural, length,
                     llama_cpp_chunks ? ", the second half scored (as llama.cpp)" : "");
}

}  // namespace pq::eval
