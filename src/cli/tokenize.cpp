#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/input_stream.h"
#include "base/json.h"
#include "base/parallel_for.h"
#include "cli/verbs.h"
#include "io/hf_checkpoint.h"
#include "program/output.h"
#include "tokenizer/tokenizer.h"

namespace pq::cli {
namespace {

struct Options {
  std::string model;
  bool special = false;
};

constexpr std::size_t lines_at_once = 4096;

std::string parse_line(const std::string& line, const std::string& where) {
  const std::size_t start = line.find_first_not_of(" \t");
  Json text;
  if (start != std::string::npos && line[start] == '"') text = Json::parse(line, nullptr, false);
  if (!text.is_string()) throw InputError(where, "is not a JSON string", "each line is one, for example \"Hello\\n\"");
  return text.get<std::string>();
}

/// The texts of the next lines, up to lines_at_once: at least one, and no more than are there, so that a program at the
/// other end of a pipe gets its answer. `failure` takes what is wrong with the line behind them.
std::vector<std::string> read_texts(LineReader& lines, std::exception_ptr& failure) {
  std::vector<std::string> texts;
  try {
    for (std::string line; texts.size() < lines_at_once && (texts.empty() || lines.has_line()) && lines.next(line);)
      texts.push_back(parse_line(line, lines.place()));
  } catch (const Error&) {
    failure = std::current_exception();
  }
  return texts;
}

std::vector<std::vector<std::int32_t>> encode_all(const Tokenizer& tokenizer, const std::vector<std::string>& texts,
                                                  bool special) {
  std::vector<std::vector<std::int32_t>> ids(texts.size());
  parallel_for(texts.size(), 16, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) ids[i] = tokenizer.encode(texts[i], special);
  });
  return ids;
}

int tokenize(const Options& options, const CommonOptions& common) {
  const Tokenizer tokenizer = Tokenizer::load(io::model_texts(io::resolve_model(options.model)));
  LineReader lines(STDIN_FILENO, "stdin");
  std::size_t tokens = 0;
  Json all = Json::array();
  for (std::exception_ptr failure;;) {
    const std::vector<std::string> texts = read_texts(lines, failure);
    if (texts.empty() && !failure) break;
    for (const auto& ids : encode_all(tokenizer, texts, options.special)) {
      tokens += ids.size();
      if (common.json) {
        all.push_back(ids);
      } else {
        print_result(fmt::format("[{}]\n", fmt::join(ids, ",")));
      }
    }
    flush_stdout();
    if (failure) std::rethrow_exception(failure);
  }
  if (common.json) {
    print_json({{"model", options.model},
                {"special", options.special},
                {"lines", lines.count()},
                {"tokens", tokens},
                {"ids", std::move(all)}});
  }
  return 0;
}

}  // namespace

Verb tokenize_verb() {
  return {"tokenize", [](CLI::App& app, const CommonOptions& common) -> Action {
            auto options = std::make_shared<Options>();
            app.add_option("MODEL", options->model,
                           "Directory with a tokenizer.json, a GGUF file, or org/name in the Hugging Face cache")
                ->required();
            app.add_flag("--special", options->special,
                         "Add the special tokens that the tokenizer puts around a text (BOS)");
            add_help_text(
                app,
                "Reads one JSON string a line from stdin and writes one JSON array of token ids a line to stdout.\n"
                "With --json: one object, {\"ids\": [[..], ..], ..}.\n\n"
                "Example:\n  printf '%s\\n' '\"Hello, world\"' | pq tokenize examples/sample-model");
            return [options, &common] { return tokenize(*options, common); };
          }};
}

}  // namespace pq::cli
