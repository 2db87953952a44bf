#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/files.h"
#include "base/input_stream.h"
#include "base/log.h"
#include "cli/generation.h"
#include "cli/verbs.h"
#include "io/hf_checkpoint.h"
#include "program/output.h"

namespace pq::cli {
namespace {

struct Options : GenerationOptions {
  std::string prompt;
  std::string prompt_file;
  bool has_prompt = false;
};

struct Prompt {
  std::string text;
  std::string where;
};

Prompt read_prompt(const Options& options) {
  Prompt prompt{options.prompt, "--prompt"};
  if (!options.prompt_file.empty()) {
    prompt = {read_text_file(options.prompt_file), options.prompt_file};
  } else if (!options.has_prompt) {
    if (::isatty(STDIN_FILENO) != 0)
      throw InputError("pq run", "there is no prompt", "give --prompt TEXT or --prompt-file FILE, or pipe a text in");
    prompt = {read_to_end(STDIN_FILENO, "stdin"), "stdin"};
  }
  require_utf8(prompt.text, prompt.where);
  return prompt;
}

int run(const Options& options, const CommonOptions& common) {
  options.validate();
  const Tokenizer tokenizer = Tokenizer::load(io::model_texts(io::resolve_model(options.model)));
  const Prompt prompt = read_prompt(options);
  const std::vector<std::int32_t> tokens = tokenizer.encode(prompt.text, true);
  Generator generator(options, common, tokenizer);
  const Generation generation = generator.run(tokens, true, prompt.where);
  log_info("{}", generation.summary());
  if (common.json) {
    Json json{{"model", options.model}, {"prompt", prompt.text}, {"seed", options.text.sampling.seed}};
    json.update(generation.json(tokenizer));
    json["context"] = generator.context();
    print_json(json);
  }
  return generation.signal == 0 ? 0 : 128 + generation.signal;
}

}  // namespace

Verb run_verb() {
  return {
      "run", [](CLI::App& app, const CommonOptions& common) -> Action {
        auto options = std::make_shared<Options>();
        options->text.max_tokens = 256;
        CLI::Option* prompt =
            app.add_option("-p,--prompt", options->prompt, "Text to continue; without it stdin")->option_text("TEXT");
        app.add_option("--prompt-file", options->prompt_file, "File with the text to continue, taken as it is")
            ->option_text("FILE")
            ->excludes(prompt);
        add_generation_options(app, *options);
        add_help_text(app,
                      "Continues a text and streams the continuation to stdout. The prompt is taken as it is, with "
                      "the BOS token in front\n"
                      "where the tokenizer adds one; for conversations there is `pq chat`. Speed goes to stderr. "
                      "Ctrl-C ends the text.\n\n"
                      "Examples:\n"
                      "  pq run examples/sample-model --prompt 'Once upon a time'\n"
                      "  pq run OUT --prompt-file story.txt -n 400 --temperature 0.8 --top-p 0.95 --seed 7\n"
                      "  echo 'The capital of France is' | pq run OUT -n 20 --stop . --json");
        return [options, prompt, &common] {
          options->has_prompt = prompt->count() > 0;
          return run(*options, common);
        };
      }};
}

}  // namespace pq::cli
