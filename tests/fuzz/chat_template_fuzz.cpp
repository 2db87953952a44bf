#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "generation/chat_template.h"
#include "text/unicode.h"

// Any bytes as a chat template give a text or a pq::Error. Other exceptions escape and end the program.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const pq::ChatInput input = [] {
    pq::ChatInput made;
    made.messages = {{{"role", "system"}, {"content", " You are \"terse\".\n"}},
                     {{"role", "user"}, {"content", "Grüße, 日本 🦙"}},
                     {{"role", "assistant"},
                      {"content", ""},
                      {"tool_calls", {{{"function", {{"name", "f"}, {"arguments", {{"x", 1.5}, {"y", nullptr}}}}}}}}},
                     {{"role", "tool"}, {"content", "[1, 2]"}}};
    made.add_generation_prompt = true;
    made.bos_token = "<s>";
    made.eos_token = "</s>";
    made.tools = {{{"type", "function"}, {"function", {{"name", "f"}, {"parameters", {{"type", "object"}}}}}}};
    made.now = 0;
    return made;
  }();
  try {
    const auto chat = pq::ChatTemplate::parse(std::string_view(reinterpret_cast<const char*>(data), size), "fuzz");
    if (pq::find_invalid_utf8(chat.render(input)) != std::string_view::npos) std::abort();
  } catch (const pq::Error&) {
  }
  return 0;
}
