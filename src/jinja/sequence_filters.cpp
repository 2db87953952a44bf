// Jinja's filters that go through the items of a value.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "jinja/filters.h"
#include "jinja/letter_case.h"
#include "jinja/members.h"
#include "jinja/output.h"
#include "jinja/tests.h"
#include "jinja/text.h"

namespace pq::jinja {
namespace {

Value list_of(Run& run, std::vector<Value> items) { return Value::sequence(run, SequenceKind::list, std::move(items)); }
Value generator(Run& run, std::vector<Value> items) {
  return Value::sequence(run, SequenceKind::generator, std::move(items));
}

/// "a.b.0" of a value, as `attribute=` of many filters names it. `fallback` stands for every part that is undefined.
Value dotted(Run& run, const Value& value, const Value& path, const std::optional<Value>& fallback = std::nullopt) {
  const auto or_fallback = [&](const Value& found) { return found.is_undefined() && fallback ? *fallback : found; };
  if (path.as_int()) return or_fallback(item(run, value, path));
  Value at = value;
  const std::string dot = ".";
  const std::string names = to_text(run, path);
  for (const std::string_view name : split(run, names, &dot, -1)) {
    std::int64_t index = 0;
    const auto [end, code] = std::from_chars(name.data(), name.data() + name.size(), index);
    const bool is_index = code == std::errc{} && end == name.data() + name.size() && name[0] != '-';
    at = or_fallback(item(run, at, is_index ? Value(index) : Value(std::string(name))));
  }
  return at;
}

/// What a filter looks at in an item: one of its attributes, and strings without regard to case.
Value sort_key(Run& run, const Value& value, const std::optional<Value>& path, bool case_sensitive) {
  const Value key = path && !path->is_none() ? dotted(run, value, *path) : value;
  if (!case_sensitive && key.string() != nullptr) return lower(run, *key.string());
  return key;
}

/// select, reject, map and their kin ask for the items of what is true only: none and false have none.
std::vector<Value> iterate_if_true(Run& run, const Value& value) {
  return value.truthy() ? iterate(run, value) : std::vector<Value>{};
}

Value count(Run& run, const Value& value, const Arguments& arguments) {
  arguments.bind(run, "length", {}, 0);
  return length(run, value);
}

Value first(Run& run, const Value& value, const Arguments& arguments) {
  arguments.bind(run, "first", {}, 0);
  const std::vector<Value> items = iterate(run, value);
  return items.empty() ? Value::undefined("there is no first item, the sequence is empty") : items.front();
}
Value last(Run& run, const Value& value, const Arguments& arguments) {
  arguments.bind(run, "last", {}, 0);
  const std::vector<Value> items = iterate(run, value);
  return items.empty() ? Value::undefined("there is no last item, the sequence is empty") : items.back();
}

Value join(Run& run, const Value& value, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, "join", {"d", "attribute"}, 0);
  std::string between;
  if (bound[0]) between = to_text(run, *bound[0]);
  std::string out;
  bool at_start = true;
  for (const Value& part : iterate(run, value)) {
    const std::string text = to_text(run, bound[1] && !bound[1]->is_none() ? dotted(run, part, *bound[1]) : part);
    run.spend(text.size() + between.size());
    if (!std::exchange(at_start, false)) out += between;
    out += text;
  }
  return out;
}

Value list(Run& run, const Value& value, const Arguments& arguments) {
  arguments.bind(run, "list", {}, 0);
  return list_of(run, iterate(run, value));
}

Value sum(Run& run, const Value& value, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, "sum", {"attribute", "start"}, 0);
  std::int64_t whole = 0;
  double real = 0;
  bool is_real = false;
  std::vector<Value> parts = iterate(run, value);
  for (Value& part : parts) part = bound[0] && !bound[0]->is_none() ? dotted(run, part, *bound[0]) : part;
  if (bound[1]) parts.insert(parts.begin(), *bound[1]);
  for (const Value& part : parts) {
    const auto number = part.as_float();
    if (!number) run.fail(fmt::format("|sum takes numbers, not a {}", part.type_name()));
    real += *number;
    is_real = is_real || part.is_float();
    if (!is_real && __builtin_add_overflow(whole, *part.as_int(), &whole))
      run.unsupported("|sum of numbers beyond 64 bits");
  }
  return is_real ? Value(real) : Value(whole);
}

template <bool wants>
Value select_by_test(Run& run, const Value& value, const Arguments& arguments, bool by_attribute) {
  const std::string_view name = by_attribute ? "selectattr" : "select";
  const std::size_t given = arguments.positional.size();
  const std::size_t at = by_attribute ? 1 : 0;
  if (given < at) run.fail(fmt::format("|{} lacks the name of an attribute", name));
  Test test = nullptr;
  Arguments rest;
  rest.named = arguments.named;
  if (given > at) {
    const std::string test_name = to_text(run, arguments.positional[at]);
    test = find_test(test_name);
    if (test == nullptr) run.unsupported(fmt::format("there is no test '{}'", test_name));
    rest.positional.assign(arguments.positional.begin() + static_cast<std::ptrdiff_t>(at) + 1,
                           arguments.positional.end());
  }
  std::vector<Value> kept;
  for (const Value& candidate : iterate_if_true(run, value)) {
    const Value subject = by_attribute ? dotted(run, candidate, arguments.positional[0]) : candidate;
    if ((test == nullptr ? subject.truthy() : test(run, subject, rest)) == wants) kept.push_back(candidate);
  }
  return generator(run, std::move(kept));
}
template <bool wants>
Value select_items(Run& run, const Value& value, const Arguments& arguments) {
  return select_by_test<wants>(run, value, arguments, false);
}
template <bool wants>
Value select_by_attribute(Run& run, const Value& value, const Arguments& arguments) {
  return select_by_test<wants>(run, value, arguments, true);
}

Value map(Run& run, const Value& value, const Arguments& arguments) {
  std::vector<Value> mapped;
  if (arguments.positional.empty()) {
    const Bound bound = arguments.bind(run, "map", {"attribute", "default"}, 1);
    for (const Value& part : iterate_if_true(run, value)) mapped.push_back(dotted(run, part, *bound[0], bound[1]));
    return generator(run, std::move(mapped));
  }
  const std::string name = to_text(run, arguments.positional[0]);
  const Filter filter = find_filter(name);
  if (filter == nullptr) run.unsupported(fmt::format("the filter '{}' is not supported", name));
  Arguments rest = arguments;
  rest.positional.erase(rest.positional.begin());
  const Run::Level level(run);
  for (const Value& part : iterate_if_true(run, value)) mapped.push_back(filter(run, part, rest));
  return generator(run, std::move(mapped));
}

Value items(Run& run, const Value& value, const Arguments& arguments) {
  arguments.bind(run, "items", {}, 0);
  std::vector<Value> pairs;
  if (value.dict() == nullptr && !value.is_undefined()) run.fail("|items takes a dict");
  if (value.dict() != nullptr) {
    for (const auto& [key, held] : value.dict()->items)
      pairs.push_back(Value::sequence(run, SequenceKind::tuple, {key, held}));
  }
  return generator(run, std::move(pairs));
}

Value reverse(Run& run, const Value& value, const Arguments& arguments) {
  arguments.bind(run, "reverse", {}, 0);
  if (value.string() != nullptr) return slice(run, value, {}, {}, Value(std::int64_t{-1}));
  std::vector<Value> reversed = iterate(run, value);
  std::reverse(reversed.begin(), reversed.end());
  return generator(run, std::move(reversed));
}

/// Items with their keys, ordered by key.
std::vector<Value> sorted(Run& run, std::vector<Value> unsorted, const std::optional<Value>& path, bool case_sensitive,
                          bool descending) {
  std::vector<std::pair<Value, Value>> keyed;
  for (Value& value : unsorted) {
    Value key = sort_key(run, value, path, case_sensitive);
    keyed.emplace_back(std::move(key), std::move(value));
  }
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    const int order = compare(run, a.first, b.first);
    return descending ? order > 0 : order < 0;
  });
  std::vector<Value> out;
  for (auto& entry : keyed) out.push_back(std::move(entry.second));
  return out;
}

Value sort(Run& run, const Value& value, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, "sort", {"reverse", "case_sensitive", "attribute"}, 0);
  return list_of(run, sorted(run, iterate(run, value), bound[2], flag(bound[1]), flag(bound[0])));
}

Value dictsort(Run& run, const Value& value, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, "dictsort", {"case_sensitive", "by", "reverse"}, 0);
  const std::string by = bound[1] ? to_text(run, *bound[1]) : std::string("key");
  if (value.dict() == nullptr) run.fail("|dictsort takes a dict");
  if (by != "key" && by != "value") run.fail("|dictsort sorts by 'key' or by 'value'");
  const Value place(std::int64_t{by == "key" ? 0 : 1});
  return list_of(run, sorted(run, iterate(run, items(run, value, {})), place, flag(bound[0]), flag(bound[2])));
}

Value unique(Run& run, const Value& value, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, "unique", {"case_sensitive", "attribute"}, 0);
  std::vector<Value> seen;
  std::vector<Value> kept;
  for (const Value& candidate : iterate(run, value)) {
    Value key = sort_key(run, candidate, bound[1], flag(bound[0]));
    if (std::any_of(seen.begin(), seen.end(), [&](const Value& old) { return equal(run, old, key); })) continue;
    seen.push_back(std::move(key));
    kept.push_back(candidate);
  }
  return generator(run, std::move(kept));
}

template <bool largest>
Value extreme(Run& run, const Value& value, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, largest ? "max" : "min", {"case_sensitive", "attribute"}, 0);
  const std::vector<Value> ordered = sorted(run, iterate(run, value), bound[1], flag(bound[0]), largest);
  return ordered.empty() ? Value::undefined("there is no item, the sequence is empty") : ordered.front();
}

/// An int of at least 1.
std::size_t size_argument(Run& run, std::string_view filter, const std::optional<Value>& value) {
  const auto size = value->as_int();
  if (!size) run.fail(fmt::format("|{} takes an int, not a {}", filter, value->type_name()));
  if (*size < 1) run.fail(fmt::format("|{} takes a number above 0", filter));
  run.spend(static_cast<std::size_t>(*size));
  return static_cast<std::size_t>(*size);
}

/// Lists of `linecount` items each.
Value batch(Run& run, const Value& value, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, "batch", {"linecount", "fill_with"}, 1);
  const std::size_t size = size_argument(run, "batch", bound[0]);
  std::vector<Value> batches;
  std::vector<Value> part;
  const auto finish = [&] { batches.push_back(list_of(run, std::exchange(part, {}))); };
  for (Value& item : iterate(run, value)) {
    if (part.size() == size) finish();
    part.push_back(std::move(item));
  }
  if (part.empty()) return generator(run, std::move(batches));
  if (bound[1] && !bound[1]->is_none()) part.resize(size, *bound[1]);
  finish();
  return generator(run, std::move(batches));
}

/// As many lists as `slices`, the first ones longer by one where the items do not divide.
Value slices(Run& run, const Value& value, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, "slice", {"slices", "fill_with"}, 1);
  const std::size_t count = size_argument(run, "slice", bound[0]);
  const std::vector<Value> items = iterate(run, value);
  std::vector<Value> made;
  auto at = items.begin();
  for (std::size_t i = 0; i < count; ++i) {
    const bool is_longer = i < items.size() % count;
    const auto end = at + static_cast<std::ptrdiff_t>(items.size() / count + (is_longer ? 1 : 0));
    std::vector<Value> part(at, end);
    if (bound[1] && !bound[1]->is_none() && !is_longer) part.push_back(*bound[1]);
    made.push_back(list_of(run, std::move(part)));
    at = end;
  }
  return generator(run, std::move(made));
}

/// Tuples of an attribute's value and the items that have it, in the order of the values.
Value groupby(Run& run, const Value& value, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, "groupby", {"attribute", "default", "case_sensitive"}, 1);
  const bool case_sensitive = flag(bound[2]);
  const auto key_of = [&](const Value& item) { return dotted(run, item, *bound[0], bound[1]); };
  const auto folded = [&](const Value& key) {
    return !case_sensitive && key.string() != nullptr ? Value(lower(run, *key.string())) : key;
  };
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& item : iterate(run, value)) keyed.emplace_back(key_of(item), item);
  std::stable_sort(keyed.begin(), keyed.end(),
                   [&](const auto& a, const auto& b) { return compare(run, folded(a.first), folded(b.first)) < 0; });
  std::vector<Value> groups;
  for (auto begin = keyed.begin(); begin != keyed.end();) {
    std::vector<Value> members;
    auto end = begin;
    for (; end != keyed.end() && equal(run, folded(end->first), folded(begin->first)); ++end)
      members.push_back(end->second);
    groups.push_back(Value::sequence(run, SequenceKind::tuple, {begin->first, list_of(run, std::move(members))}));
    begin = end;
  }
  return list_of(run, std::move(groups));
}

constexpr FilterRow rows[] = {
    {"batch", batch},
    {"count", count},
    {"dictsort", dictsort},
    {"first", first},
    {"groupby", groupby},
    {"items", items},
    {"join", join},
    {"last", last},
    {"length", count},
    {"list", list},
    {"map", map},
    {"max", extreme<true>},
    {"min", extreme<false>},
    {"reject", select_items<false>},
    {"rejectattr", select_by_attribute<false>},
    {"reverse", reverse},
    {"select", select_items<true>},
    {"selectattr", select_by_attribute<true>},
    {"slice", slices},
    {"sort", sort},
    {"sum", sum},
    {"unique", unique},
};

}  // namespace

std::span<const FilterRow> sequence_filters() { return rows; }

}  // namespace pq::jinja
