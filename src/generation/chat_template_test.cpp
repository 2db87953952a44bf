#include "generation/chat_template.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "base/error.h"
#include "jinja/golden_for_test.h"

namespace pq {
namespace {

using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;

ChatInput input_of(const Json& tokens, const Json& given) {
  ChatInput input;
  input.now = jinja::golden_now();
  if (tokens.contains("bos_token")) input.bos_token = tokens["bos_token"].get<std::string>();
  if (tokens.contains("eos_token")) input.eos_token = tokens["eos_token"].get<std::string>();
  for (const auto& [key, value] : given.items()) {
    if (key == "messages") {
      input.messages = value;
    } else if (key == "add_generation_prompt") {
      input.add_generation_prompt = value.get<bool>();
    } else if (key == "tools") {
      input.tools = value;
    } else {
      input.variables[key] = value;
    }
  }
  return input;
}

/// The text, or "error: " and the message.
std::string outcome(const std::string& jinja, const ChatInput& input) {
  try {
    return ChatTemplate::parse(jinja, "template").render(input);
  } catch (const Error& error) {
    return std::string("error: ") + error.what();
  }
}

TEST(ChatTemplate, RendersAsTransformersDoes) {
  std::size_t cases = 0;
  const Json templates = jinja::golden("templates.json");
  for (const Json& row : templates["templates"]) {
    const auto name = row["name"].get<std::string>();
    for (const Json& one : row["cases"]) {
      const std::string text = outcome(row["template"].get<std::string>(), input_of(row["tokens"], one["input"]));
      if (one.contains("error")) {
        EXPECT_TRUE(text.starts_with("error: template, line ")) << name << one["input"] << "\n"
                                                                << one["error"] << "\n"
                                                                << text;
      } else {
        EXPECT_EQ(text, one["expected"].get<std::string>()) << name << one["input"];
      }
      ++cases;
    }
  }
  EXPECT_GT(cases, 400U);
}

TEST(ChatTemplate, BuiltInTemplatesEqualThePublishedOnes) {
  std::size_t cases = 0;
  const Json templates = jinja::golden("templates.json");
  for (const Json& row : templates["templates"]) {
    if (row["built_in"].is_null()) continue;
    const ChatTemplate built_in = ChatTemplate::built_in(row["built_in"].get<std::string>());
    for (const Json& one : row["cases"]) {
      const Json& messages = one["input"]["messages"];
      const bool plain = !one["input"].contains("tools") && !one.contains("error") &&
                         std::all_of(messages.begin(), messages.end(), [](const Json& message) {
                           return !message.contains("tool_calls") && message["role"] != "tool";
                         });
      if (!plain) continue;
      EXPECT_EQ(built_in.render(input_of(row["tokens"], one["input"])), one["expected"].get<std::string>())
          << row["built_in"] << one["input"];
      ++cases;
    }
  }
  EXPECT_GT(cases, 60U);
}

TEST(ChatTemplate, BuiltInTemplatesRefuseWhatThePublishedOnesRefuse) {
  const Json twice = {{{"role", "user"}, {"content", "a"}}, {{"role", "user"}, {"content", "b"}}};
  for (const std::string name : {"llama2", "mistral-v0.3"}) {
    ChatInput input;
    input.messages = twice;
    input.bos_token = input.eos_token = "x";
    try {
      ChatTemplate::built_in(name).render(input);
      FAIL() << name;
    } catch (const InputError& error) {
      EXPECT_THAT(error.what(),
                  AllOf(HasSubstr("built-in chat template " + name + ", line "),
                        HasSubstr("the chat template refuses: "), HasSubstr("alternate"), EndsWith("--chat-template")));
    }
  }
}

TEST(ChatTemplate, InputThatIsNoText) {
  ChatInput input;
  input.messages = {{{"role", "user"}, {"content", "a\xff"}}};
  EXPECT_THAT(outcome("{{ messages }}", input), HasSubstr("a message is not valid UTF-8"));
  input.messages = Json(18446744073709551615U);
  EXPECT_THAT(outcome("{{ messages }}", input), HasSubstr("18446744073709551615 does not fit into 64 bits"));
  input.messages = Json::array();
  for (int i = 0; i < 500; ++i) input.messages = Json::array({std::move(input.messages)});
  EXPECT_THAT(outcome("{{ messages }}", input), HasSubstr("nested too deep"));
}

TEST(ChatTemplate, IsChosenByTheTokenizer) {
  const std::filesystem::path tokenizers = std::filesystem::path(PQ_SHARED_DIR) / "data/tokenizers";
  if (!std::filesystem::exists(tokenizers)) GTEST_SKIP() << tokenizers << " is not there";
  ChatInput input;
  input.messages = {{{"role", "user"}, {"content", "Hi"}}};
  input.bos_token = "<bos>";
  input.eos_token = "<eos>";
  input.add_generation_prompt = true;
  const auto show = [&](const char* name) {
    return ChatTemplate::of(Tokenizer::load(tokenizers / name), name).render(input);
  };
  EXPECT_EQ(show("llama3"),
            "<bos><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n");
  EXPECT_EQ(show("mistral-v0.3"), "<bos>[INST] Hi[/INST]");
  EXPECT_EQ(show("smollm2"), "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_THAT(show("qwen2.5"), testing::StartsWith("<|im_start|>system\nYou are Qwen"));
  EXPECT_THAT(show("llama2"), testing::StartsWith("<|user|>\nHi"));
}

TEST(ChatTemplate, AModelWithoutOneSaysWhatToDo) {
  const Tokenizer tokenizer = Tokenizer::load(std::string(PQ_SOURCE_DIR) + "/examples/sample-model");
  try {
    ChatTemplate::of(tokenizer, "examples/sample-model");
    FAIL();
  } catch (const InputError& error) {
    EXPECT_STREQ(
        error.what(),
        "examples/sample-model: the model comes without a chat template, and its tokens are of no family with a "
        "known one; choose with --chat-template FILE (Jinja), or by name: llama3, chatml, mistral-v0.3, llama2; "
        "a model that was not trained to chat is better used with pq run");
  }
  try {
    ChatTemplate::choose("chatlm");
    FAIL();
  } catch (const InputError& error) {
    EXPECT_STREQ(
        error.what(),
        "--chat-template: 'chatlm' is neither a file nor the name of a built-in template; name a file with Jinja, "
        "or one of: llama3, chatml, mistral-v0.3, llama2");
  }
  const auto file = std::filesystem::path(testing::TempDir()) / "pq_chat_template.jinja";
  std::ofstream(file) << "{{ messages[0].content }}!";
  ChatInput input;
  input.messages = {{{"role", "user"}, {"content", "Hi"}}};
  EXPECT_EQ(ChatTemplate::choose(file.string()).render(input), "Hi!");
  std::filesystem::remove(file);
}

}  // namespace
}  // namespace pq
