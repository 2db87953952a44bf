#include "jinja/globals.h"

#include <fmt/format.h>

#include <array>

namespace pq::jinja {

Value strftime_now(Run& run, const Arguments& arguments, std::time_t now) {
  const auto bound = arguments.bind(run, "strftime_now", {"format"}, 1);
  if (bound[0]->string() == nullptr) run.fail("strftime_now() takes a string");
  std::tm local{};
  ::localtime_r(&now, &local);
  // The character in front tells an empty result from one that did not fit.
  const std::string format = fmt::format("x{}", bound[0]->string()->substr(0, bound[0]->string()->find('\0')));
  std::array<char, 1024> buffer{};
  const std::size_t size = std::strftime(buffer.data(), buffer.size(), format.c_str(), &local);
  if (size == 0) run.unsupported("strftime_now() makes more than a thousand characters");
  return std::string(buffer.data() + 1, size - 1);
}

Value range(Run& run, const Arguments& arguments) {
  const auto bound = arguments.bind(run, "range", {"start", "stop", "step"}, 1);
  const auto number = [&](const std::optional<Value>& value, std::int64_t fallback) {
    if (!value) return fallback;
    if (!value->as_int()) run.fail(fmt::format("range() takes ints, not a {}", value->type_name()));
    return *value->as_int();
  };
  const std::int64_t first = bound[1] ? number(bound[0], 0) : 0;
  const std::int64_t stop = number(bound[1] ? bound[1] : bound[0], 0);
  const std::int64_t step = number(bound[2], 1);
  if (step == 0) run.fail("the step of range() is 0");
  std::vector<Value> items;
  for (std::int64_t i = first; step > 0 ? i < stop : i > stop;) {
    if (items.size() == 100000) run.fail("range() of more than 100000 numbers");  // the limit of Jinja's sandbox
    items.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return Value::sequence(run, SequenceKind::range, std::move(items));
}

std::vector<std::pair<Value, Value>> named_items(Run& run, std::string_view function, const Arguments& arguments) {
  std::vector<std::pair<Value, Value>> items;
  if (arguments.positional.size() > 1) run.fail(fmt::format("{}() takes one dict", function));
  if (!arguments.positional.empty()) {
    if (arguments.positional[0].dict() == nullptr) run.fail(fmt::format("{}() takes a dict", function));
    items = arguments.positional[0].dict()->items;
  }
  for (const auto& [name, value] : arguments.named) items.emplace_back(name, value);
  return items;
}

}  // namespace pq::jinja
