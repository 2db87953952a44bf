// Jinja's filters that look at one value.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "jinja/filter_rows.h"
#include "jinja/members.h"
#include "jinja/output.h"
#include "jinja/text.h"

namespace pq::jinja {
namespace {

std::int64_t int_or(Run& run, std::string_view filter, const std::optional<Value>& value, std::int64_t fallback) {
  if (!value || value->is_none()) return fallback;
  const auto number = value->as_int();
  if (!number) run.fail(fmt::format("|{} takes an int here, not a {}", filter, value->type_name()));
  return *number;
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

Value attr(Run& run, const Value& value, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, "attr", {"name"}, 1);
  const std::string name = to_text(run, *bound[0]);
  if (value.dict() == nullptr) return attribute(run, value, name);
  if (auto found = method(run, value, name)) return *std::move(found);
  return Value::undefined(fmt::format("'dict object' has no attribute '{}'", name));
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
  for (const std::string_view line : split_lines(run, text)) {
    run.spend(indention.size() + line.size());
    if (!at_start) {
      out += '\n';
      if (flag(bound[2]) || !line.empty()) out += indention;
    }
    out += line;
    at_start = false;
  }
  return out;
}

constexpr FilterRow rows[] = {
    {"abs", absolute},
    {"attr", attr},
    {"capitalize", change_case<capitalize>},
    {"d", default_to},
    {"default", default_to},
    {"e", escape},
    {"escape", escape},
    {"float", to_float},
    {"indent", indent},
    {"int", to_int},
    {"lower", change_case<lower>},
    {"replace", replace_all},
    {"safe", safe},
    {"string", string},
    {"title", change_case<title_words>},
    {"tojson", tojson},
    {"trim", trim},
    {"upper", change_case<upper>},
};

}  // namespace

std::span<const FilterRow> value_filters() { return rows; }

}  // namespace pq::jinja
