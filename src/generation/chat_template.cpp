#include "generation/chat_template.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <system_error>

#include "base/error.h"
#include "base/files.h"
#include "jinja/interpreter.h"
#include "jinja/parser.h"

namespace pq {
namespace {

struct BuiltIn {
  std::string_view name;
  std::string_view token;  ///< a tokenizer that has it is of this family; empty: not chosen by itself
  std::string_view jinja;
};

// From the model cards of Meta-Llama-3-8B-Instruct, Qwen (ChatML), Mistral-7B-Instruct-v0.3 and Llama-2-7b-chat-hf.
constexpr BuiltIn built_ins[] = {
    {"llama3", "<|start_header_id|>",
     R"({% for message in messages -%}
{{ bos_token if loop.first }}<|start_header_id|>{{ message['role'] }}<|end_header_id|>

{{ message['content'] | trim }}<|eot_id|>
{%- endfor %}
{%- if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>{{ '\n\n' }}{% endif %})"},
    {"chatml", "<|im_start|>",
     R"({% for message in messages %}
{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %})"},
    {"mistral-v0.3", "[INST]",
     R"({%- if messages[0]['role'] == 'system' %}
{%- set system_message = messages[0]['content'] %}
{%- set loop_messages = messages[1:] %}
{%- else %}
{%- set loop_messages = messages %}
{%- endif %}
{{- bos_token }}
{%- for message in loop_messages %}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('after the optional system message, roles must alternate user/assistant/user/assistant/...') }}
{%- endif %}
{%- if message['role'] == 'user' %}
{{- '[INST] ' + (system_message + '\n\n' if loop.last and system_message is defined else '') }}
{{- message['content'] + '[/INST]' }}
{%- elif message['role'] == 'assistant' %}
{{- ' ' + message['content'] | trim + eos_token }}
{%- else %}
{{- raise_exception('only user and assistant roles are supported, with a system message at the start') }}
{%- endif %}
{%- endfor %})"},
    {"llama2", "",
     R"({%- if messages[0]['role'] == 'system' %}
{%- set loop_messages = messages[1:] %}
{%- set system_message = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}
{%- else %}
{%- set loop_messages = messages %}
{%- set system_message = '' %}
{%- endif %}
{%- for message in loop_messages %}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
{%- endif %}
{%- set content = (system_message if loop.index0 == 0 else '') + message['content'] %}
{%- if message['role'] == 'user' %}
{{- bos_token + '[INST] ' + content.strip() + ' [/INST]' }}
{%- elif message['role'] == 'assistant' %}
{{- ' ' + content.strip() + ' ' + eos_token }}
{%- endif %}
{%- endfor %})"},
};

const BuiltIn* find_built_in(std::string_view name) {
  const auto row =
      std::find_if(std::begin(built_ins), std::end(built_ins), [&](const BuiltIn& b) { return b.name == name; });
  return row == std::end(built_ins) ? nullptr : &*row;
}

}  // namespace

struct ChatTemplate::Parts {
  std::string where;
  jinja::Block block;
};

ChatTemplate ChatTemplate::parse(std::string_view jinja, std::string_view where) {
  return ChatTemplate(std::make_shared<const Parts>(Parts{std::string(where), jinja::parse_template(jinja, where)}));
}

std::vector<std::string> ChatTemplate::built_in_names() {
  std::vector<std::string> names;
  for (const BuiltIn& row : built_ins) names.emplace_back(row.name);
  return names;
}

ChatTemplate ChatTemplate::built_in(std::string_view name) {
  const BuiltIn* row = find_built_in(name);
  if (row == nullptr) {
    throw InputError("--chat-template", fmt::format("there is no built-in template '{}'", name),
                     fmt::format("one of: {}", fmt::join(built_in_names(), ", ")));
  }
  return parse(row->jinja, fmt::format("built-in chat template {}", name));
}

ChatTemplate ChatTemplate::choose(const std::string& name_or_file) {
  if (find_built_in(name_or_file) != nullptr) return built_in(name_or_file);
  if (std::error_code code; !std::filesystem::exists(name_or_file, code)) {
    throw InputError("--chat-template",
                     fmt::format("'{}' is neither a file nor the name of a built-in template", name_or_file),
                     fmt::format("name a file with Jinja, or one of: {}", fmt::join(built_in_names(), ", ")));
  }
  return parse(read_text_file(name_or_file), name_or_file);
}

ChatTemplate ChatTemplate::of(const Tokenizer& tokenizer, std::string_view where) {
  if (const auto& own = tokenizer.chat_template()) return parse(*own, fmt::format("chat template of {}", where));
  for (const BuiltIn& row : built_ins) {
    if (row.token.empty()) continue;
    const auto id = tokenizer.id_of(row.token);
    if (id && tokenizer.is_special(*id)) return built_in(row.name);
  }
  throw InputError(where, "the model comes without a chat template, and its tokens are of no family with a known one",
                   fmt::format("choose with --chat-template FILE (Jinja), or by name: {}; a model that was not trained "
                               "to chat is better used with pq run",
                               fmt::join(built_in_names(), ", ")));
}

std::string ChatTemplate::render(const ChatInput& input) const {
  jinja::Run run(parts_->where);
  std::vector<std::pair<std::string, jinja::Value>> variables;
  const auto add = [&](const std::string& name, const Json& json) {
    variables.emplace_back(name, jinja::Value::from_json(run, json));
  };
  add("messages", input.messages);
  add("tools", input.tools);
  add("documents", nullptr);
  add("add_generation_prompt", input.add_generation_prompt);
  if (input.bos_token) add("bos_token", *input.bos_token);
  if (input.eos_token) add("eos_token", *input.eos_token);
  for (const auto& [name, value] : input.variables.items()) add(name, value);
  return jinja::render(parts_->block, run, variables, input.now.value_or(std::time(nullptr)));
}

}  // namespace pq
