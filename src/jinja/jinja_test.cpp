#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "jinja/golden_for_test.h"
#include "jinja/interpreter.h"
#include "jinja/parser.h"
#include "jinja/text.h"

namespace pq::jinja {
namespace {

using testing::HasSubstr;

/// The text, or "error: " and the message.
std::string outcome(const std::string& text, const Json& variables) {
  try {
    const Block block = parse_template(text, "template");
    Run run("template");
    std::vector<std::pair<std::string, Value>> values;
    for (const auto& [name, value] : variables.items()) values.emplace_back(name, Value::from_json(run, value));
    return render(block, run, values, golden_now());
  } catch (const Error& error) {
    return std::string("error: ") + error.what();
  }
}

std::string outcome(const std::string& text) { return outcome(text, {{"messages", Json::array()}}); }

TEST(Jinja, ComputesExpressionsAndStatementsAsJinja) {
  const Json goldens = golden("expressions.json");
  std::size_t cases = 0;
  for (const Json& one : goldens["cases"]) {
    const auto jinja = one["template"].get<std::string>();
    const std::string text = outcome(jinja, goldens["variables"]);
    if (one.contains("error")) {
      EXPECT_TRUE(text.starts_with("error: template, line ")) << jinja << "\n" << one["error"] << "\n" << text;
    } else if (text.find("not supported") == std::string::npos) {
      EXPECT_EQ(text, one["expected"].get<std::string>()) << jinja;
    } else {
      EXPECT_THAT(jinja, HasSubstr("recursive")) << text;
    }
    ++cases;
  }
  EXPECT_GT(cases, 450U);
}

TEST(Jinja, ErrorsNameTheLineAndWhatIsNotSupported) {
  const struct {
    const char* jinja;
    const char* message;
  } rows[] = {
      {"a\nb\n{{ x | nothing }}",
       "error: template, line 3: the filter 'nothing' is not supported; choose another template "
       "with --chat-template"},
      {"{% include 'x' %}",
       "error: template, line 1: the tag 'include' is not supported; choose another template with "
       "--chat-template"},
      {"\n{% if a %}",
       "error: template, line 2: 'endif' is missing; mend the chat template, or choose another with "
       "--chat-template"},
      {"{{ messages.x.y }}",
       "error: template, line 1: 'list object' has no attribute 'x'; change the messages, or choose "
       "another template with --chat-template"},
      {"{{ raise_exception('Only\ntwo') }}",
       "error: template, line 1: the chat template refuses: Only two; change the "
       "messages, or choose another template with --chat-template"},
      {"{{ 'a'.encode() }}",
       "error: template, line 1: the method .encode() of a str is not supported; choose another "
       "template with --chat-template"},
      {"\n\n{{ messages.append(1) }}",
       "error: template, line 3: the method .append() of a list is not supported; choose "
       "another template with --chat-template"},
  };
  for (const auto& row : rows) EXPECT_EQ(outcome(row.jinja), row.message);
}

TEST(Jinja, HostileTemplatesEnd) {
  const std::string deep(100000, '(');
  const std::string minus(100000, '-');
  std::string blocks;
  std::string sum = "1";
  std::string elifs = "{% if false %}";
  for (int i = 0; i < 5000; ++i) {
    blocks += "{% if true %}";
    sum += "+1";
    elifs += "{% elif false %}x";
  }
  const std::string templates[] = {
      "{{ " + deep,
      "{{ " + minus + "1 }}",
      blocks,
      "{{ " + sum + " }}",
      "{% for i in range(99999) %}{% for j in range(99999) %}{{ i }}{% endfor %}{% endfor %}",
      "{{ 'a' * 999999999999 }}",
      "{{ [1] * 99999999 }}",
      "{{ '' * 9223372036854775807 }}{{ 9223372036854775807 + 1 }}",
      "{{ range(9223372036854775807) }}",
      "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
      "{% set ns = namespace(x=[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
      "{% set ns = namespace(x=1) %}{% for i in range(999) %}{% set ns.x = {'a': ns.x}.get %}{% endfor %}{{ ns.x }}",
      "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
      "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
      "{% set a = 'a' * 1000000 %}{% for i in range(9999) %}{{ a.find('a' * 500000 ~ 'b') }}{% endfor %}",
      "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns.x.x.x.x is defined and ns }}",
      "{{ 'x'|indent(999999999999) }}",
      "{{ {'a': 1}|tojson(indent=9999999999) }}",
      "{{ strftime_now('%9999999d') }}",
      "{{ 2 ** 99999999999 }}",
      "{{ 'a'.replace('', 'b' * 9999999) }}{{ ('a' * 9999).replace('', 'b' * 99999) }}",
      "{{ '\\ud800' }}",
      std::string("{{ '\xff' }}"),
      std::string(2 << 20, 'x'),
  };
  for (const std::string& jinja : templates)
    EXPECT_TRUE(outcome(jinja).starts_with("error: template, line ")) << jinja.substr(0, 100);
  EXPECT_EQ(outcome(elifs + "{% endif %}"), "");
  EXPECT_EQ(outcome("{{ (-9223372036854775807 - 1) // -1 }}").substr(0, 6), "error:");
}

TEST(Jinja, PartsOfATextLieInIt) {
  pq::jinja::Run run("template");
  const std::string comma = ",";
  EXPECT_EQ(split(run, "a,,b", &comma, -1), (std::vector<std::string_view>{"a", "", "b"}));
  EXPECT_EQ(split(run, "a,,b", &comma, 1), (std::vector<std::string_view>{"a", ",b"}));
  EXPECT_EQ(split(run, "  a \n b  ", nullptr, -1), (std::vector<std::string_view>{"a", "b"}));
  EXPECT_EQ(split_lines(run, "a\r\nb\n\nc"), (std::vector<std::string_view>{"a", "b", "", "c"}));
}

}  // namespace
}  // namespace pq::jinja
