#include "jinja/members.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "jinja/method_rows.h"
#include "jinja/output.h"
#include "jinja/text.h"
#include "text/unicode.h"

namespace pq::jinja {
namespace {

using Bound = std::vector<std::optional<Value>>;

Value count_method(Run& run, const Value& self, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, "count", {"x"}, 1);
  const auto& items = self.sequence()->items;
  return static_cast<std::int64_t>(
      std::count_if(items.begin(), items.end(), [&](const Value& item) { return equal(run, item, *bound[0]); }));
}

Value index_method(Run& run, const Value& self, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, "index", {"x"}, 1);
  const auto& items = self.sequence()->items;
  const auto at =
      std::find_if(items.begin(), items.end(), [&](const Value& item) { return equal(run, item, *bound[0]); });
  if (at == items.end()) run.fail("index(): the value is not in the list");
  return static_cast<std::int64_t>(at - items.begin());
}

Value get_method(Run& run, const Value& self, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, "get", {"key", "default"}, 1);
  if (const Value* found = self.dict()->find(run, *bound[0])) return *found;
  return bound[1].value_or(Value());
}

template <SequenceKind kind>
Value view_method(Run& run, const Value& self, const Arguments& arguments) {
  arguments.bind(run, "a view of a dict", {}, 0);
  std::vector<Value> items;
  for (const auto& [key, value] : self.dict()->items) {
    if (kind == SequenceKind::dict_items) {
      items.push_back(Value::sequence(run, SequenceKind::tuple, {key, value}));
    } else {
      items.push_back(kind == SequenceKind::dict_keys ? key : value);
    }
  }
  return Value::sequence(run, kind, std::move(items));
}

Value copy_method(Run& run, const Value& self, const Arguments& arguments) {
  arguments.bind(run, "copy", {}, 0);
  return self;
}

constexpr MethodRow list_methods[] = {
    {"count", count_method}, {"index", index_method}, {"copy", copy_method}, {"append", nullptr},
    {"clear", nullptr},      {"extend", nullptr},     {"insert", nullptr},   {"pop", nullptr},
    {"remove", nullptr},     {"reverse", nullptr},    {"sort", nullptr},
};
constexpr MethodRow tuple_methods[] = {{"count", count_method}, {"index", index_method}};
constexpr MethodRow dict_methods[] = {
    {"get", get_method},
    {"items", view_method<SequenceKind::dict_items>},
    {"keys", view_method<SequenceKind::dict_keys>},
    {"values", view_method<SequenceKind::dict_values>},
    {"copy", copy_method},
    {"clear", nullptr},
    {"fromkeys", nullptr},
    {"pop", nullptr},
    {"popitem", nullptr},
    {"setdefault", nullptr},
    {"update", nullptr},
};

std::span<const MethodRow> methods_of(const Value& value) {
  if (value.string() != nullptr) return string_methods();
  if (value.dict() != nullptr) return dict_methods;
  const Sequence* sequence = value.sequence();
  if (sequence == nullptr) return {};
  if (sequence->kind == SequenceKind::list) return list_methods;
  return sequence->kind == SequenceKind::tuple ? std::span<const MethodRow>(tuple_methods)
                                               : std::span<const MethodRow>();
}

Value loop_attribute(Run& run, const Value& value, std::string_view name) {
  const Loop& loop = *value.loop();
  const auto index0 = static_cast<std::int64_t>(loop.index0);
  const auto size = static_cast<std::int64_t>(loop.items.size());
  if (name == "index0") return index0;
  if (name == "index") return index0 + 1;
  if (name == "revindex0") return size - 1 - index0;
  if (name == "revindex") return size - index0;
  if (name == "first") return index0 == 0;
  if (name == "last") return index0 == size - 1;
  if (name == "length") return size;
  if (name == "depth") return std::int64_t{1};  // counts recursive loops only
  if (name == "depth0") return std::int64_t{0};
  if (name == "previtem")
    return index0 == 0 ? Value::undefined("there is no previous item") : loop.items[loop.index0 - 1];
  if (name == "nextitem")
    return index0 + 1 >= size ? Value::undefined("there is no next item") : loop.items[loop.index0 + 1];
  if (name == "cycle") {
    return Callable{"cycle", [index0](Run& now, const Arguments& arguments) {
                      if (arguments.positional.empty()) now.fail("cycle() lacks its items");
                      return arguments.positional[static_cast<std::size_t>(index0) % arguments.positional.size()];
                    }};
  }
  if (name == "changed") run.unsupported("loop.changed is not supported");
  return Value::undefined(fmt::format("'loop' has no attribute '{}'", name));
}

Value missing(const Value& value, std::string_view name) {
  return Value::undefined(fmt::format("'{} object' has no attribute '{}'", value.type_name(), name));
}

/// Python's slice.indices.
struct Range {
  std::int64_t start;
  std::int64_t stop;
  std::int64_t step;
};

Range slice_range(Run& run, std::int64_t size, const Value& start, const Value& stop, const Value& step) {
  const auto number = [&](const Value& value, std::int64_t fallback) {
    if (value.is_none()) return fallback;
    const auto given = value.as_int();
    if (!given) run.fail(fmt::format("a slice takes ints, not a {}", value.type_name()));
    return *given;
  };
  Range range{};
  range.step = number(step, 1);
  if (range.step == 0) run.fail("the step of a slice is 0");
  range.step = std::clamp(range.step, -size - 1, size + 1);
  const std::int64_t low = range.step < 0 ? -1 : 0;
  const std::int64_t high = range.step < 0 ? size - 1 : size;
  const auto clamp = [&](std::int64_t index) { return std::clamp(index < 0 ? index + size : index, low, high); };
  range.start = start.is_none() ? (range.step < 0 ? high : low) : clamp(number(start, 0));
  range.stop = stop.is_none() ? (range.step < 0 ? low : high) : clamp(number(stop, 0));
  return range;
}

template <typename Visit>
void visit(const Range& range, const Visit& visit_index) {
  for (std::int64_t i = range.start; range.step > 0 ? i < range.stop : i > range.stop; i += range.step)
    visit_index(static_cast<std::size_t>(i));
}

}  // namespace

std::optional<Value> method(Run& run, const Value& value, std::string_view name) {
  for (const MethodRow& row : methods_of(value)) {
    if (row.name != name) continue;
    const Method call = row.call;
    if (call == nullptr)
      run.unsupported(fmt::format("the method .{}() of a {} is not supported", name, value.type_name()));
    run.spend(64);
    return Callable{std::string(name),
                    [value, call](Run& now, const Arguments& arguments) { return call(now, value, arguments); },
                    value.depth() + 1};
  }
  return std::nullopt;
}

Value attribute(Run& run, const Value& value, std::string_view name) {
  run.spend(1);
  if (value.is_undefined()) run.fail(value.why_undefined());
  if (value.loop() != nullptr) return loop_attribute(run, value, name);
  if (const Namespace* space = value.name_space()) {
    const auto found = space->attributes.find(name);
    return found == space->attributes.end() ? missing(value, name) : found->second;
  }
  if (auto bound = method(run, value, name)) return *std::move(bound);
  if (const Dict* dict = value.dict()) {
    if (const Value* found = dict->find(run, std::string(name))) return *found;
  }
  return missing(value, name);
}

Value item(Run& run, const Value& value, const Value& key) {
  run.spend(1);
  if (value.is_undefined()) run.fail(value.why_undefined());
  if (const Dict* dict = value.dict()) {
    if (const Value* found = dict->find(run, key)) return *found;
  }
  if (const std::string* name = key.string()) {
    if (value.loop() != nullptr || value.name_space() != nullptr) return attribute(run, value, *name);
    if (auto bound = method(run, value, *name)) return *std::move(bound);
    return missing(value, *name);
  }
  const auto out_of_range = [&] {
    return Value::undefined(fmt::format("'{} object' has no element {}", value.type_name(), to_text(run, key)));
  };
  auto index = key.as_int();
  if (!index) return out_of_range();
  if (const std::string* text = value.string()) {
    const auto size = static_cast<std::int64_t>(count_characters(run, *text));
    if (*index < 0) *index += size;
    if (*index < 0 || *index >= size) return out_of_range();
    std::string_view rest = *text;
    for (; *index > 0; --*index) rest.remove_prefix(utf8_length(rest[0]));
    return std::string(rest.substr(0, utf8_length(rest[0])));
  }
  const Sequence* sequence = value.sequence();
  if (sequence == nullptr || sequence->kind > SequenceKind::range) return out_of_range();
  const auto size = static_cast<std::int64_t>(sequence->items.size());
  if (*index < 0) *index += size;
  if (*index < 0 || *index >= size) return out_of_range();
  return sequence->items[static_cast<std::size_t>(*index)];
}

Value slice(Run& run, const Value& value, const Value& start, const Value& stop, const Value& step) {
  if (value.is_undefined()) run.fail(value.why_undefined());
  if (const std::string* text = value.string()) {
    run.spend(sizeof(std::size_t) * text->size());
    std::vector<std::size_t> begins;
    for (std::size_t at = 0; at < text->size(); at += utf8_length((*text)[at])) begins.push_back(at);
    std::string out;
    visit(slice_range(run, static_cast<std::int64_t>(begins.size()), start, stop, step),
          [&](std::size_t i) { out += std::string_view(*text).substr(begins[i], utf8_length((*text)[begins[i]])); });
    return out;
  }
  const Sequence* sequence = value.sequence();
  if (sequence == nullptr || sequence->kind > SequenceKind::range)
    return Value::undefined(fmt::format("a {} cannot be sliced", value.type_name()));
  std::vector<Value> items;
  run.spend(sequence->items.size());
  visit(slice_range(run, static_cast<std::int64_t>(sequence->items.size()), start, stop, step),
        [&](std::size_t i) { items.push_back(sequence->items[i]); });
  return Value::sequence(run, sequence->kind, std::move(items));
}

}  // namespace pq::jinja
