#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>
#include <memory>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/files.h"
#include "base/log.h"
#include "cli/generation.h"
#include "cli/verbs.h"
#include "generation/chat_template.h"
#include "io/hf_checkpoint.h"
#include "program/output.h"

namespace pq::cli {
namespace {

struct Options : GenerationOptions {
  std::string system;
  std::string chat_template;
  std::string resume;
};

/// Messages that /save wrote.
Json read_messages(const std::string& path) {
  const Json saved = read_json_file(path);
  const Json messages = saved.is_object() ? saved.value("messages", Json()) : Json();
  bool is_valid = messages.is_array();
  for (const Json& message : messages) {
    is_valid = is_valid && message.is_object() && message.contains("role") && message["role"].is_string() &&
               message.contains("content") && message["content"].is_string();
  }
  if (!is_valid) {
    throw FormatError(path, "is no conversation: it lacks a list 'messages' of objects with 'role' and 'content'",
                      "name a file that /save wrote");
  }
  return messages;
}

class Chat {
 public:
  Chat(const Options& options, const CommonOptions& common)
      : options_(options),
        common_(common),
        tokenizer_(Tokenizer::load(io::model_texts(io::resolve_model(options.model)))),
        template_(options.chat_template.empty() ? ChatTemplate::of(tokenizer_, options.model)
                                                : ChatTemplate::choose(options.chat_template)) {
    require_utf8(options.system, "--system");
    if (const auto id = tokenizer_.bos_id()) input_.bos_token = tokenizer_.token_text(*id);
    if (const auto id = tokenizer_.eos_id()) input_.eos_token = tokenizer_.token_text(*id);
    input_.add_generation_prompt = true;
    reset();
    if (!options.resume.empty()) input_.messages = read_messages(options.resume);
    generator_.emplace(options, common, tokenizer_);
  }

  int run() {
    const bool on_terminal = ::isatty(STDIN_FILENO) != 0;
    if (on_terminal && !common_.quiet) log_info("/reset starts anew, /save FILE writes the conversation, /quit ends");
    std::size_t number = 0;
    for (std::string line; read_line(line, on_terminal);) {
      ++number;
      if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
      try {
        if (line[0] == '/') {
          if (!command(line)) break;
        } else {
          answer(line, fmt::format("stdin, line {}", number));
        }
      } catch (const Error& error) {
        if (!on_terminal) throw;
        log_warning("{}", error.what());  // the user can say something else
      }
    }
    if (common_.json) {
      print_json({{"model", options_.model},
                  {"seed", options_.text.sampling.seed},
                  {"context", generator_->context()},
                  {"turns", std::move(turns_)},
                  {"messages", input_.messages}});
    }
    return 0;
  }

 private:
  static bool read_line(std::string& line, bool on_terminal) {
    if (on_terminal) std::fputs("> ", stderr);
    const bool is_read = static_cast<bool>(std::getline(std::cin, line));
    if (on_terminal && !is_read) std::fputs("\n", stderr);
    return is_read;
  }

  void reset() {
    input_.messages = Json::array();
    if (!options_.system.empty()) input_.messages.push_back({{"role", "system"}, {"content", options_.system}});
  }

  /// False ends the chat.
  bool command(std::string line) {
    while (line.back() == ' ' || line.back() == '\t' || line.back() == '\r') line.pop_back();
    const std::size_t space = line.find(' ');
    const std::string word = line.substr(0, space);
    const std::string argument = space == std::string::npos ? "" : line.substr(line.find_first_not_of(' ', space));
    if (word == "/quit" && argument.empty()) return false;
    if (word == "/reset" && argument.empty()) {
      reset();
    } else if (word == "/save" && !argument.empty()) {
      const Json saved{{"model", options_.model}, {"messages", input_.messages}};
      write_file_atomically(argument, saved.dump(1) + "\n");
      log_info("saved {} messages to {}", input_.messages.size(), argument);
    } else {
      throw InputError(line, "is no command", "there are /reset, /save FILE and /quit");
    }
    return true;
  }

  void answer(const std::string& line, const std::string& where) {
    require_utf8(line, where);
    ChatInput input = input_;
    input.messages.push_back({{"role", "user"}, {"content", line}});
    const std::vector<std::int32_t> tokens = tokenizer_.encode(template_.render(input), false);
    if (static_cast<std::int64_t>(tokens.size()) > generator_->context()) {
      throw InputError(where,
                       fmt::format("the conversation has {} tokens with it, but the context holds {}", tokens.size(),
                                   generator_->context()),
                       "/reset starts anew; or raise --context");
    }
    const Generation generation = generator_->run(tokens, false, where);
    input_.messages = std::move(input.messages);
    input_.messages.push_back({{"role", "assistant"}, {"content", generation.text}});
    if (common_.json) turns_.push_back(generation.json(tokenizer_));
  }

  const Options& options_;
  const CommonOptions& common_;
  Tokenizer tokenizer_;
  ChatTemplate template_;
  ChatInput input_;
  std::optional<Generator> generator_;
  Json turns_ = Json::array();
};

int chat(const Options& options, const CommonOptions& common) {
  options.validate();
  return Chat(options, common).run();
}

}  // namespace

Verb chat_verb() {
  return {"chat", [](CLI::App& app, const CommonOptions& common) -> Action {
            auto options = std::make_shared<Options>();
            options->text.max_tokens = 1024;
            options->text.sampling.temperature = 0.7;
            options->text.sampling.top_p = 0.9;
            CLI::Option* system =
                app.add_option("--system", options->system, "What the model is told before the conversation")
                    ->option_text("TEXT");
            app.add_option("--chat-template", options->chat_template,
                           fmt::format("File with a Jinja chat template, or one of {}; default: the model's own, else "
                                       "the one of its family",
                                       fmt::join(ChatTemplate::built_in_names(), ", ")))
                ->option_text("FILE|NAME");
            app.add_option("--resume", options->resume, "Goes on with a conversation that /save wrote")
                ->option_text("FILE")
                ->excludes(system);
            add_generation_options(app, *options);
            add_help_text(
                app,
                "Talks with a model: each line of stdin is a message, each answer is streamed to stdout. What "
                "was said before stays in the\n"
                "KV cache, so that only new tokens are run. Lines that start with / are commands: /reset "
                "forgets the conversation, /save FILE\n"
                "writes it as JSON, /quit ends (as does Ctrl-D). Ctrl-C ends an answer. With --json: one "
                "object at the end, `turns` and `messages`.\n\n"
                "Examples:\n"
                "  pq chat OUT --system 'You are terse.'\n"
                "  printf 'Hello!\\nAnd goodbye.\\n' | pq chat OUT --temperature 0 --json\n"
                "  pq chat examples/sample-model --chat-template chatml");
            return [options, &common] { return chat(*options, common); };
          }};
}

}  // namespace pq::cli
