#include "measure/speed_tests.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/error.h"
#include "base/suggest.h"

namespace pq::measure {
namespace {

constexpr std::int64_t most_tokens = 1'000'000;
constexpr std::int64_t most_sequences = 64;
constexpr std::string_view grammar =
    "a test is ppN (prefill N tokens) or tgN (generate N), then xB for B sequences and @D for D tokens that are there "
    "already, for example tg128x8@4096";

/// The number that `text` begins with; removes it.
std::optional<std::int64_t> take_number(std::string_view& text, std::int64_t most) {
  std::int64_t number = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (code != std::errc{} || end == text.data() || number < 1 || number > most) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return number;
}

std::optional<BenchTest> parse_test(std::string_view name) {
  BenchTest test{.name = std::string(name)};
  std::string_view rest = name;
  if (rest.starts_with("tg")) {
    test.kind = BenchTest::Kind::generate;
  } else if (!rest.starts_with("pp")) {
    return std::nullopt;
  }
  rest.remove_prefix(2);
  const auto part = [&](std::int64_t most, std::int64_t& value) {
    const auto number = take_number(rest, most);
    if (number) value = *number;
    return number.has_value();
  };
  if (!part(most_tokens, test.tokens)) return std::nullopt;
  if (rest.starts_with('x')) {
    rest.remove_prefix(1);
    if (!part(most_sequences, test.batch)) return std::nullopt;
  }
  if (rest.starts_with('@')) {
    rest.remove_prefix(1);
    if (rest == "0") {
      rest = {};
    } else if (!part(most_tokens, test.depth)) {
      return std::nullopt;
    }
  }
  if (!rest.empty()) return std::nullopt;
  return test;
}

}  // namespace

std::vector<BenchTest> parse_tests(const std::vector<std::string>& names) {
  std::vector<BenchTest> tests;
  const auto add = [&](const std::string& name) {
    const auto test = parse_test(name);
    if (!test) {
      std::vector<std::string> known = default_tests();
      const std::string near = nearest(name, known);
      throw InputError(fmt::format("--test {}", name), "is not a test",
                       near.empty() ? std::string(grammar) : fmt::format("did you mean '{}'? {}", near, grammar));
    }
    const bool there = std::any_of(tests.begin(), tests.end(), [&](const BenchTest& t) { return t.name == name; });
    if (!there) tests.push_back(*test);
  };
  for (const std::string& name : names) {
    if (name == "paper") {
      add("pp2048");
      add("tg256@2048");
    } else {
      add(name);
    }
  }
  return tests;
}

std::vector<std::string> default_tests() {
  return {"pp512", "pp2048", "pp8192", "tg128", "tg128@4096", "tg128@16384", "pp512x8", "tg128x8", "paper"};
}

std::vector<std::string> quick_tests() { return {"pp512", "tg128"}; }

}  // namespace pq::measure
