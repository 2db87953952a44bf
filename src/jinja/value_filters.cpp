// Jinja's filters that look at one value.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "jinja/filter_rows.h"
#include "jinja/formatting.h"
#include "jinja/letter_case.h"
#include "jinja/members.h"
#include "jinja/output.h"
#include "jinja/text.h"
#include "text/unicode.h"

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

/// int(text, base): with "0x" and its kin where the base has them.
std::optional<std::int64_t> parse_whole(Run& run, const std::string& text, std::int64_t base) {
  if (base != 0 && (base < 2 || base > 36)) run.fail("|int takes a base from 2 to 36, or 0");
  std::string_view digits = strip(run, text, nullptr, true, true);
  const bool negative = digits.starts_with('-');
  if (negative || digits.starts_with('+')) digits.remove_prefix(1);
  constexpr std::pair<std::string_view, std::int64_t> prefixes[] = {{"xX", 16}, {"oO", 8}, {"bB", 2}};
  std::int64_t wanted = base;
  for (const auto& [letters, meant] : prefixes) {
    if (digits.size() < 2 || digits[0] != '0' || letters.find(digits[1]) == std::string_view::npos) continue;
    if (base != 0 && base != meant) continue;
    digits.remove_prefix(2);
    wanted = meant;
    break;
  }
  if (wanted == 0 && digits.size() > 1 && digits[0] == '0' && digits.find_first_not_of("0_") != std::string_view::npos)
    return std::nullopt;
  std::string plain;  // Python allows single underscores between digits
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (digits[i] != '_') {
      plain += digits[i];
    } else if (i == 0 || i + 1 == digits.size() || digits[i - 1] == '_') {
      return std::nullopt;
    }
  }
  if (plain.starts_with('-')) return std::nullopt;
  std::int64_t number = 0;
  if (negative) plain.insert(0, "-");
  const auto [end, code] =
      std::from_chars(plain.data(), plain.data() + plain.size(), number, static_cast<int>(wanted == 0 ? 10 : wanted));
  if (code != std::errc{} || end != plain.data() + plain.size()) return std::nullopt;
  return number;
}

Value to_float(Run& run, const Value& value, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, "float", {"default"}, 0);
  if (value.is_undefined()) run.fail(value.why_undefined());
  if (const auto number = value.as_float()) return *number;
  if (const std::string* text = value.string()) {
    if (const auto number = parse_number<double>(run, *text)) return *number;
  }
  return bound[0].value_or(Value(0.0));
}

Value to_int(Run& run, const Value& value, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, "int", {"default", "base"}, 0);
  if (value.is_undefined()) run.fail(value.why_undefined());
  if (const auto number = value.as_int()) return *number;
  std::optional<double> real = value.as_float();
  if (const std::string* text = value.string()) {
    if (const auto number = parse_whole(run, *text, int_or(run, "int", bound[1], 10))) return *number;
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

/// Python's round() of an int: to a power of ten, halves to even.
std::int64_t round_whole(Run& run, std::int64_t value, std::int64_t digits) {
  if (digits >= 0) return value;
  if (digits < -18) return 0;
  std::int64_t unit = 1;
  for (std::int64_t i = digits; i < 0; ++i) unit *= 10;
  std::int64_t below = value / unit * unit;
  if (below > value) below -= unit;
  const std::int64_t rest = value - below;
  const bool up = rest > unit - rest || (rest == unit - rest && below / unit % 2 != 0);
  std::int64_t rounded = below;
  if (up && __builtin_add_overflow(below, unit, &rounded)) run.unsupported("|round of a number beyond 64 bits");
  return rounded;
}

Value round(Run& run, const Value& value, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, "round", {"precision", "method"}, 0);
  const std::int64_t digits = int_or(run, "round", bound[0], 0);
  const std::string method = bound[1] ? to_text(run, *bound[1]) : "common";
  if (method != "common" && method != "ceil" && method != "floor") run.fail("|round takes 'common', 'ceil' or 'floor'");
  const auto real = value.as_float();
  if (!real) run.fail(fmt::format("|round takes a number, not a {}", value.type_name()));
  if (method == "common") {
    if (const auto whole = value.as_int()) return round_whole(run, *whole, digits);
    return round_half_even(*real, digits);
  }
  if (!std::isfinite(*real)) run.fail("|round takes a finite number");
  const double unit = std::pow(10.0, static_cast<double>(digits));
  return (method == "ceil" ? std::ceil(*real * unit) : std::floor(*real * unit)) / unit;
}

Value format(Run& run, const Value& value, const Arguments& arguments) {
  if (!arguments.positional.empty() && !arguments.named.empty())
    run.fail("|format takes values either one by one or by name");
  if (arguments.named.empty())
    return percent_format(run, to_text(run, value), Value::sequence(run, SequenceKind::tuple, arguments.positional));
  return percent_format(run, to_text(run, value), Value::dict(run, {arguments.named.begin(), arguments.named.end()}));
}

Value center(Run& run, const Value& value, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, "center", {"width"}, 0);
  const std::string text = to_text(run, value);
  return centered(run, text, int_or(run, "center", bound[0], 80), " ");
}

/// Cut to `length` characters with the end, at a blank unless `killwords`; a few more than that stay (`leeway`).
Value truncate(Run& run, const Value& value, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, "truncate", {"length", "killwords", "end", "leeway"}, 0);
  const std::string end = bound[2] ? to_text(run, *bound[2]) : "...";
  const std::int64_t length = int_or(run, "truncate", bound[0], 255);
  const std::int64_t leeway = int_or(run, "truncate", bound[3], 5);
  const auto end_length = static_cast<std::int64_t>(count_characters(run, end));
  if (length < end_length || leeway < 0) run.fail("|truncate takes a length that its end fits into");
  const std::string text = to_text(run, value);
  if (static_cast<std::int64_t>(count_characters(run, text)) <= length + leeway) return text;
  std::size_t bytes = 0;
  for (std::int64_t i = 0; i < length - end_length; ++i) bytes += utf8_length(text[bytes]);
  std::string kept = text.substr(0, bytes);
  if (!flag(bound[1])) kept = kept.substr(0, std::min(kept.rfind(' '), kept.size()));
  return kept + end;
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
  if (value.string() == nullptr) run.fail(fmt::format("|indent takes a str, not a {}", value.type_name()));
  std::string text = *value.string();
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
    {"center", center},
    {"capitalize", change_case<capitalize>},
    {"d", default_to},
    {"default", default_to},
    {"e", escape},
    {"escape", escape},
    {"float", to_float},
    {"format", format},
    {"indent", indent},
    {"int", to_int},
    {"lower", change_case<lower>},
    {"replace", replace_all},
    {"round", round},
    {"safe", safe},
    {"string", string},
    {"title", change_case<title_words>},
    {"tojson", tojson},
    {"trim", trim},
    {"truncate", truncate},
    {"upper", change_case<upper>},
};

}  // namespace

std::span<const FilterRow> value_filters() { return rows; }

}  // namespace pq::jinja
