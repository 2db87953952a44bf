#pragma once

#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "tokenizer/tokenizer.h"

namespace pq {

/// What a chat template is rendered with, as apply_chat_template of `transformers` passes it.
struct ChatInput {
  Json messages = Json::array();       ///< a list of {"role": .., "content": ..}, and whatever else the template reads
  bool add_generation_prompt = false;  ///< end with the start of the assistant's turn
  std::optional<std::string> bos_token;  ///< their texts; undefined in the template without a value
  std::optional<std::string> eos_token;
  Json tools;                       ///< a list of JSON schemas, or null
  Json variables = Json::object();  ///< any others, by name
  std::optional<std::time_t> now;   ///< what strftime_now() shows; without a value the time of the call
};

/// A model's chat template: Jinja, the part of it that chat templates use, rendered with trim_blocks and lstrip_blocks
/// in a sandbox that forbids changing lists and dicts, as `transformers` does it. Strings marked |safe are ordinary
/// ones here. Immutable and thread-safe; copies share the parsed template.
class ChatTemplate {
 public:
  /// `where` names the template in errors. Throws FormatError (not Jinja) and UnsupportedError (a tag, filter or test
  /// that is not computed here), both with the line.
  static ChatTemplate parse(std::string_view jinja, std::string_view where);
  /// One of built_in_names(). Throws InputError for any other.
  static ChatTemplate built_in(std::string_view name);
  static std::vector<std::string> built_in_names();
  /// The template that comes with the tokenizer, else the built-in one of the family whose special tokens it has.
  /// Throws InputError, with the remedy, when there is neither; else as parse(). `where` names the model.
  static ChatTemplate of(const Tokenizer& tokenizer, std::string_view where);
  /// `name_or_file`: a built-in name, else a file with Jinja. Throws InputError when it is neither.
  static ChatTemplate choose(const std::string& name_or_file);

  /// Throws InputError (the template refuses these messages, or computes what Python refuses; text that is not UTF-8)
  /// and UnsupportedError (more steps, memory or output than a chat needs), both with the template's line.
  std::string render(const ChatInput& input) const;

 private:
  struct Parts;
  explicit ChatTemplate(std::shared_ptr<const Parts> parts) : parts_(std::move(parts)) {}

  std::shared_ptr<const Parts> parts_;
};

}  // namespace pq
