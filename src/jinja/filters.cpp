// Jinja's filters: `x | name(...)`.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "jinja/text.h"
#include "jinja/value.h"

namespace pq::jinja {
namespace {

using Bound = std::vector<std::optional<Value>>;

Value list_of(Run& run, std::vector<Value> items) { return Value::sequence(run, SequenceKind::list, std::move(items)); }
Value generator(Run& run, std::vector<Value> items) {
  return Value::sequence(run, SequenceKind::generator, std::move(items));
}
bool flag(const std::optional<Value>& value) { return value && value->truthy(); }

std::int64_t int_or(Run& run, std::string_view filter, const std::optional<Value>& value, std::int64_t fallback) {
  if (!value || value->is_none()) return fallback;
  const auto number = value->as_int();
  if (!number) run.fail(fmt::format("|{} takes an int here, not a {}", filter, value->type_name()));
  return *number;
}

/// "a.b.0" of a value, as `attribute=` of many filters names it. `fallback` stands for every part that is undefined.
Value dotted(Run& run, const Value& value, const Value& path, const std::optional<Value>& fallback = std::nullopt) {
  const auto or_fallback = [&](const Value& found) { return found.is_undefined() && fallback ? *fallback : found; };
  if (path.as_int()) return or_fallback(item(run, value, path));
  Value at = value;
  const std::string dot = ".";
  for (const Value& part : split(run, to_text(run, path), &dot, -1)) {
    const std::string& name = *part.string();
    std::int64_t index = 0;
    const auto [end, code] = std::from_chars(name.data(), name.data() + name.size(), index);
    const bool is_index = code == std::errc{} && end == name.data() + name.size() && name[0] != '-';
    at = or_fallback(item(run, at, is_index ? Value(index) : part));
  }
  return at;
}

/// What a filter looks at in an item: one of its attributes, and strings without regard to case.
Value sort_key(Run& run, const Value& value, const std::optional<Value>& path, bool case_sensitive) {
  const Value key = path && !path->is_none() ? dotted(run, value, *path) : value;
  if (!case_sensitive && key.string() != nullptr) return lower(run, *key.string());
  return key;
}

Value tojson(Run& run, const Value& value, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, "tojson", {"ensure_ascii", "indent", "separators", "sort_keys"}, 0);
  JsonStyle style;
  style.ensure_ascii = flag(bound[0]);
  style.sort_keys = flag(bound[3]);
  if (bound[1] && !bound[1]->is_none()) {
    if (const std::string* text = bound[1]->string()) {
      style.indent = *text;
    } else {
      const std::int64_t width = std::max<std::int64_t>(int_or(run, "tojson", bound[1], 0), 0);
      run.spend(static_cast<std::size_t>(width));
      style.indent = std::string(static_cast<std::size_t>(width), ' ');
    }
    style.item_separator.assign(1, ',');
  }
  if (bound[2] && !bound[2]->is_none()) {
    const Sequence* pair = bound[2]->sequence();
    if (pair == nullptr || pair->items.size() != 2 || pair->items[0].string() == nullptr ||
        pair->items[1].string() == nullptr)
      run.fail("|tojson takes two strings as separators");
    style.item_separator = *pair->items[0].string();
    style.key_separator = *pair->items[1].string();
  }
  return to_json(run, value, style);
}

Value trim(Run& run, const Value& value, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, "trim", {"chars"}, 0);
  const std::string text = to_text(run, value);
  const bool has_characters = bound[0] && !bound[0]->is_none();
  if (has_characters && bound[0]->string() == nullptr) run.fail("|trim takes a string");
  return std::string(strip(run, text, has_characters ? bound[0]->string() : nullptr, true, true));
}

template <std::string (*change)(Run&, std::string_view)>
Value change_case(Run& run, const Value& value, const Arguments& arguments) {
  arguments.bind(run, "a filter that changes case", {}, 0);
  return change(run, to_text(run, value));
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

Value default_to(Run& run, const Value& value, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, "default", {"default_value", "boolean"}, 0);
  const bool replaces = value.is_undefined() || (flag(bound[1]) && !value.truthy());
  return replaces ? bound[0].value_or(Value(std::string())) : value;
}

Value replace_all(Run& run, const Value& value, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, "replace", {"old", "new", "count"}, 2);
  return replace(run, to_text(run, value), to_text(run, *bound[0]), to_text(run, *bound[1]),
                 int_or(run, "replace", bound[2], -1));
}

Value list(Run& run, const Value& value, const Arguments& arguments) {
  arguments.bind(run, "list", {}, 0);
  return list_of(run, iterate(run, value));
}
Value string(Run& run, const Value& value, const Arguments& arguments) {
  arguments.bind(run, "string", {}, 0);
  return to_text(run, value);
}
Value safe(Run& run, const Value& value, const Arguments& arguments) { return string(run, value, arguments); }

Value escape(Run& run, const Value& value, const Arguments& arguments) {
  arguments.bind(run, "escape", {}, 0);
  const std::string text = to_text(run, value);
  run.spend(6 * text.size());
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

/// A number written out, white space around it allowed; nullopt for anything else.
template <typename Number>
std::optional<Number> parse_number(Run& run, const std::string& text) {
  std::string_view digits = strip(run, text, nullptr, true, true);
  if (digits.starts_with('+')) digits.remove_prefix(1);
  Number number{};
  const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (code != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
  return number;
}

Value to_float(Run& run, const Value& value, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, "float", {"default"}, 0);
  if (const auto number = value.as_float()) return *number;
  if (const std::string* text = value.string()) {
    if (const auto number = parse_number<double>(run, *text)) return *number;
  }
  return bound[0].value_or(Value(0.0));
}

Value to_int(Run& run, const Value& value, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, "int", {"default"}, 0);
  if (const auto number = value.as_int()) return *number;
  std::optional<double> real = value.as_float();
  if (const std::string* text = value.string()) {
    if (const auto number = parse_number<std::int64_t>(run, *text)) return *number;
    real = parse_number<double>(run, *text);
  }
  constexpr double limit = 9.2e18;
  if (real && std::abs(*real) < limit) return static_cast<std::int64_t>(*real);
  if (real && std::isfinite(*real)) run.unsupported("|int of a number beyond 64 bits");
  return bound[0].value_or(Value(std::int64_t{0}));
}

Value absolute(Run& run, const Value& value, const Arguments& arguments) {
  arguments.bind(run, "abs", {}, 0);
  if (const auto whole = value.as_int()) {
    if (*whole == INT64_MIN) run.unsupported("|abs of a number beyond 64 bits");
    return *whole < 0 ? -*whole : *whole;
  }
  const auto real = value.as_float();
  if (!real) run.fail(fmt::format("|abs takes a number, not a {}", value.type_name()));
  return std::abs(*real);
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
  for (const Value& candidate : iterate(run, value)) {
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
    for (const Value& part : iterate(run, value)) mapped.push_back(dotted(run, part, *bound[0], bound[1]));
    return generator(run, std::move(mapped));
  }
  const std::string name = to_text(run, arguments.positional[0]);
  const Filter filter = find_filter(name);
  if (filter == nullptr) run.unsupported(fmt::format("the filter '{}' is not supported", name));
  Arguments rest = arguments;
  rest.positional.erase(rest.positional.begin());
  const Run::Level level(run);
  for (const Value& part : iterate(run, value)) mapped.push_back(filter(run, part, rest));
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

Value attr(Run& run, const Value& value, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, "attr", {"name"}, 1);
  const std::string name = to_text(run, *bound[0]);
  if (value.dict() == nullptr) return attribute(run, value, name);
  if (auto found = method(run, value, name)) return *std::move(found);
  return Value::undefined(fmt::format("'dict object' has no attribute '{}'", name));
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

Value indent(Run& run, const Value& value, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, "indent", {"width", "first", "blank"}, 0);
  std::string indention;
  if (bound[0] && bound[0]->string() != nullptr) {
    indention = *bound[0]->string();
  } else {
    const std::int64_t width = std::max<std::int64_t>(int_or(run, "indent", bound[0], 4), 0);
    run.spend(static_cast<std::size_t>(width));
    indention.assign(static_cast<std::size_t>(width), ' ');
  }
  std::string out;
  if (flag(bound[1])) out = indention;
  bool at_start = true;
  std::string text = to_text(run, value);
  text += '\n';
  for (const Value& line : split_lines(run, text)) {
    run.spend(indention.size() + line.string()->size());
    if (!at_start) {
      out += '\n';
      if (flag(bound[2]) || !line.string()->empty()) out += indention;
    }
    out += *line.string();
    at_start = false;
  }
  return out;
}

constexpr std::pair<std::string_view, Filter> rows[] = {
    {"abs", absolute},
    {"attr", attr},
    {"capitalize", change_case<capitalize>},
    {"count", count},
    {"d", default_to},
    {"default", default_to},
    {"dictsort", dictsort},
    {"e", escape},
    {"escape", escape},
    {"first", first},
    {"float", to_float},
    {"indent", indent},
    {"int", to_int},
    {"items", items},
    {"join", join},
    {"last", last},
    {"length", count},
    {"list", list},
    {"lower", change_case<lower>},
    {"map", map},
    {"max", extreme<true>},
    {"min", extreme<false>},
    {"reject", select_items<false>},
    {"rejectattr", select_by_attribute<false>},
    {"replace", replace_all},
    {"reverse", reverse},
    {"safe", safe},
    {"select", select_items<true>},
    {"selectattr", select_by_attribute<true>},
    {"sort", sort},
    {"string", string},
    {"sum", sum},
    {"title", change_case<title_words>},
    {"tojson", tojson},
    {"trim", trim},
    {"unique", unique},
    {"upper", change_case<upper>},
};

}  // namespace

Filter find_filter(std::string_view name) {
  const auto row = std::find_if(std::begin(rows), std::end(rows), [&](const auto& r) { return r.first == name; });
  return row == std::end(rows) ? nullptr : row->second;
}

}  // namespace pq::jinja
