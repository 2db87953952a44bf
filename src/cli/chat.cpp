#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <exception>
#include <memory>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/files.h"
#include "base/input_stream.h"
#include "base/log.h"
#include "base/terminal.h"
#include "cli/chat_line.h"
#include "cli/generation.h"
#include "cli/line_editor.h"
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
    std::exception_ptr failure;
    int code = 0;
    try {
      code = LineEditor::possible() ? converse() : answer_stream();
    } catch (const Error&) {
      failure = std::current_exception();
    }
    if (common_.json && !stdout_is_broken()) {
      print_json({{"model", options_.model},
                  {"seed", options_.text.sampling.seed},
                  {"context", generator_->context()},
                  {"turns", std::move(turns_)},
                  {"messages", input_.messages}});
    }
    if (failure) std::rethrow_exception(failure);
    return code;
  }

 private:
  /// With a person at a terminal.
  int converse() {
    LineEditor editor("> ");
    if (!common_.quiet) log_info("/help shows the commands; Ctrl-C ends an answer, twice the chat");
    InterruptNote note;  // of what comes between two answers
    int interrupts = 0;  // since the last message was entered
    for (std::string line;;) {
      line.clear();
      const LineBuffer::State state = note.signal() == 0 ? editor.read(line) : LineBuffer::State::interrupted;
      if (state == LineBuffer::State::ended) return 0;
      if (state == LineBuffer::State::interrupted) {
        if (note.take() == SIGTERM) return 128 + SIGTERM;
        if (line.empty() && ++interrupts > 1) return 128 + SIGINT;
        if (line.empty()) log_info("Ctrl-C again, or /quit, ends the chat");
        continue;
      }
      interrupts = 0;
      if (!take_or_warn(line, "the message")) return 0;
      if (last_signal_ == SIGTERM) return 128 + SIGTERM;
      if (last_signal_ != 0) interrupts = 1;
    }
  }

  /// Each line of stdin is a message.
  int answer_stream() {
    const bool from_person = ::isatty(STDIN_FILENO) != 0;  // at a terminal that LineEditor cannot draw on
    LineReader lines(STDIN_FILENO, "stdin");
    for (std::string line;;) {
      if (from_person) put_on_stderr("> ");
      if (!lines.next(line)) return 0;
      if (!(from_person ? take_or_warn(line, lines.place()) : take(line, lines.place()))) return 0;
      if (last_signal_ != 0 && !from_person) return 128 + last_signal_;
    }
  }

  /// As take(); what is wrong with a message is said, and the person can say something else.
  bool take_or_warn(const std::string& line, const std::string& where) {
    try {
      return take(line, where);
    } catch (const Error& error) {
      if (stdout_is_broken()) throw;
      log_warning("{}", error.what());
    }
    return true;
  }

  /// Does what a line asks for; false when that is to end the chat.
  bool take(const std::string& line, const std::string& where) {
    last_signal_ = 0;
    const ChatLine asked = read_chat_line(line);
    switch (asked.kind) {
      case ChatLine::Kind::blank:
        break;
      case ChatLine::Kind::help:
        put_on_stderr(chat_commands());
        break;
      case ChatLine::Kind::reset:
        reset();
        break;
      case ChatLine::Kind::save:
        save(asked.text);
        break;
      case ChatLine::Kind::quit:
        return false;
      case ChatLine::Kind::message:
        if (resembles_command(line)) log_info("{} is no command, so it is a message; /help shows the commands", line);
        answer(asked.text, where);
        break;
    }
    return true;
  }

  void reset() {
    input_.messages = Json::array();
    if (!options_.system.empty()) input_.messages.push_back({{"role", "system"}, {"content", options_.system}});
  }

  void save(const std::string& path) const {
    if (path.empty()) {
      log_warning("/save takes the name of a file");
      return;
    }
    const Json saved{{"model", options_.model}, {"messages", input_.messages}};
    write_file_atomically(path, saved.dump(1) + "\n");
    log_info("saved {} messages to {}", input_.messages.size(), path);
  }

  void answer(const std::string& line, const std::string& where) {
    require_utf8(line, where);
    ChatInput input = input_;
    input.messages.push_back({{"role", "user"}, {"content", line}});
    const std::string prompt = template_.render(input);
    if (prompt.empty()) {
      throw InputError(where, "the chat template makes nothing of the conversation",
                       "mend it, or choose another with --chat-template");
    }
    const std::vector<std::int32_t> tokens = tokenizer_.encode(prompt, false);
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
    last_signal_ = generation.signal;
    log_info("{}; context {} of {} tokens", generation.summary(), generator_->context_used(), generator_->context());
  }

  const Options& options_;
  const CommonOptions& common_;
  Tokenizer tokenizer_;
  ChatTemplate template_;
  ChatInput input_;
  std::optional<Generator> generator_;
  Json turns_ = Json::array();
  int last_signal_ = 0;  // that ended the last answer
};

int chat(const Options& options, const CommonOptions& common) {
  options.validate();
  return Chat(options, common).run();
}

}  // namespace

Verb chat_verb() {
  return {
      "chat", [](CLI::App& app, const CommonOptions& common) -> Action {
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
            fmt::format(
                "Talks with a model; each answer is streamed to stdout. What was said before stays in the KV cache, "
                "so that only new\n"
                "tokens are run. On a terminal Enter sends a message; a pasted text of several lines is one, and "
                "Alt-Enter begins a new\n"
                "line. Ctrl-C ends an answer, twice the chat. From a pipe or a file, each line is a message. With "
                "--json: one object at the\n"
                "end, `turns` and `messages`.\n\n"
                "Commands, alone on their line:\n{}"
                "Any other line that starts with / is a message; a blank or a second / in front makes a command "
                "one: //quit.\n\n",
                chat_commands()) +
                "Examples:\n"
                "  pq chat OUT --system 'You are terse.'\n"
                "  printf 'Hello!\\nAnd goodbye.\\n' | pq chat OUT --temperature 0 --json\n"
                "  pq chat examples/sample-model --chat-template chatml");
        return [options, &common] { return chat(*options, common); };
      }};
}

}  // namespace pq::cli
