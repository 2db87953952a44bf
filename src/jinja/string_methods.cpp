// The methods of Python's str.
#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <array>

#include "jinja/formatting.h"
#include "jinja/letter_case.h"
#include "jinja/method_rows.h"
#include "jinja/output.h"
#include "jinja/text.h"
#include "text/unicode.h"

namespace pq::jinja {
namespace {

using Bound = std::vector<std::optional<Value>>;

const std::string& text_argument(Run& run, std::string_view function, const Value& value) {
  if (value.string() == nullptr) run.fail(fmt::format("{}() takes a str here, not a {}", function, value.type_name()));
  return *value.string();
}

/// nullptr for an argument that is left out or None.
const std::string* optional_text(Run& run, std::string_view function, const std::optional<Value>& value) {
  return !value || value->is_none() ? nullptr : &text_argument(run, function, *value);
}

std::int64_t count_argument(Run& run, std::string_view function, const std::optional<Value>& value) {
  if (!value) return -1;
  const auto count = value->as_int();
  if (!count) run.fail(fmt::format("{}() takes an int here, not a {}", function, value->type_name()));
  return *count;
}

Value list_of(Run& run, std::vector<Value> items) { return Value::sequence(run, SequenceKind::list, std::move(items)); }
Value list_of(Run& run, const std::vector<std::string_view>& texts) {
  std::vector<Value> items;
  for (const std::string_view text : texts) items.emplace_back(std::string(text));
  return list_of(run, std::move(items));
}

template <bool left, bool right>
Value strip_method(Run& run, const Value& self, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, "strip", {"chars"}, 0);
  return std::string(strip(run, *self.string(), optional_text(run, "strip", bound[0]), left, right));
}

template <std::string (*change)(Run&, std::string_view)>
Value case_method(Run& run, const Value& self, const Arguments& arguments) {
  arguments.bind(run, "a method that changes case", {}, 0);
  return change(run, *self.string());
}

Value split_method(Run& run, const Value& self, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, "split", {"sep", "maxsplit"}, 0);
  return list_of(
      run, split(run, *self.string(), optional_text(run, "split", bound[0]), count_argument(run, "split", bound[1])));
}

Value rsplit_method(Run& run, const Value& self, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, "rsplit", {"sep", "maxsplit"}, 0);
  return list_of(run, split_from_end(run, *self.string(), optional_text(run, "rsplit", bound[0]),
                                     count_argument(run, "rsplit", bound[1])));
}

/// What stands before, in and behind the first or last `sep`.
template <bool last>
Value partition_method(Run& run, const Value& self, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, "partition", {"sep"}, 1);
  const std::string& separator = text_argument(run, "partition", *bound[0]);
  if (separator.empty()) run.fail("partition() takes no empty separator");
  const std::string& text = *self.string();
  spend_search(run, text, separator);
  run.spend(text.size());
  const std::size_t at = last ? text.rfind(separator) : text.find(separator);
  std::vector<Value> parts;
  if (at == std::string::npos) {
    parts = {std::string(), std::string(), std::string()};
    parts[last ? 2 : 0] = text;
  } else {
    parts = {text.substr(0, at), separator, text.substr(at + separator.size())};
  }
  return Value::sequence(run, SequenceKind::tuple, std::move(parts));
}

Value splitlines_method(Run& run, const Value& self, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, "splitlines", {"keepends"}, 0);
  const std::string& text = *self.string();
  std::vector<std::string_view> lines = split_lines(run, text);
  if (bound[0] && bound[0]->truthy()) {
    for (std::size_t i = 0; i < lines.size(); ++i) {
      const char* const end = i + 1 < lines.size() ? lines[i + 1].data() : text.data() + text.size();
      lines[i] = {lines[i].data(), static_cast<std::size_t>(end - lines[i].data())};
    }
  }
  return list_of(run, lines);
}

/// text[start:stop], of which the methods that search take `start` and `stop`.
struct Window {
  std::string_view text;
  std::int64_t begin;     ///< in characters
  bool is_inside = true;  ///< `start` is not behind the text
};

Window window(Run& run, std::string_view function, std::string_view text, const Bound& bound) {
  const auto position = [&](const std::optional<Value>& value, std::int64_t fallback, std::int64_t size) {
    if (!value || value->is_none()) return fallback;
    const std::int64_t given = count_argument(run, function, value);
    return std::max<std::int64_t>(given < 0 ? given + size : given, 0);
  };
  if (!bound[1] && !bound[2]) return {text, 0};
  const auto size = static_cast<std::int64_t>(count_characters(run, text));
  const std::int64_t begin = position(bound[1], 0, size);
  const std::int64_t end = std::min(position(bound[2], size, size), size);
  if (begin > end) return {{}, begin, false};
  std::size_t bytes = 0;
  std::size_t first = 0;
  for (std::int64_t i = 0; i < end; ++i) {
    if (i == begin) first = bytes;
    bytes += utf8_length(text[bytes]);
  }
  if (begin == end) first = bytes;
  return {text.substr(first, bytes - first), begin};
}

template <bool at_end>
Value affix_method(Run& run, const Value& self, const Arguments& arguments) {
  const std::string_view name = at_end ? "endswith" : "startswith";
  const Bound bound = arguments.bind(run, name, {"affix", "start", "stop"}, 1);
  const Window part = window(run, name, *self.string(), bound);
  const auto matches = [&](const Value& affix) {
    const std::string& text = text_argument(run, name, affix);
    run.spend(text.size());
    return part.is_inside && (at_end ? part.text.ends_with(text) : part.text.starts_with(text));
  };
  if (const Sequence* affixes = bound[0]->sequence(); affixes != nullptr && affixes->kind == SequenceKind::tuple)
    return std::any_of(affixes->items.begin(), affixes->items.end(), matches);
  return matches(*bound[0]);
}

template <bool at_end>
Value remove_affix_method(Run& run, const Value& self, const Arguments& arguments) {
  const std::string_view name = at_end ? "removesuffix" : "removeprefix";
  const Bound bound = arguments.bind(run, name, {"affix"}, 1);
  const std::string& affix = text_argument(run, name, *bound[0]);
  std::string_view text = *self.string();
  run.spend(text.size() + affix.size());
  if (at_end && text.ends_with(affix)) text.remove_suffix(affix.size());
  if (!at_end && text.starts_with(affix)) text.remove_prefix(affix.size());
  return std::string(text);
}

Value replace_method(Run& run, const Value& self, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, "replace", {"old", "new", "count"}, 2);
  return replace(run, *self.string(), text_argument(run, "replace", *bound[0]),
                 text_argument(run, "replace", *bound[1]), count_argument(run, "replace", bound[2]));
}

template <bool last, bool must>
Value find_method(Run& run, const Value& self, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, "find", {"sub", "start", "stop"}, 1);
  const Window part = window(run, "find", *self.string(), bound);
  const std::int64_t at = part.is_inside ? find_text(run, part.text, text_argument(run, "find", *bound[0]), last) : -1;
  if (must && at < 0) run.fail("index(): the text is not there");
  return at < 0 ? at : part.begin + at;
}

Value count_method(Run& run, const Value& self, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, "count", {"sub", "start", "stop"}, 1);
  const Window part = window(run, "count", *self.string(), bound);
  if (!part.is_inside) return std::int64_t{0};
  return count_text(run, part.text, text_argument(run, "count", *bound[0]));
}

Value join_method(Run& run, const Value& self, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, "join", {"iterable"}, 1);
  std::string out;
  bool first = true;
  for (const Value& part : iterate(run, *bound[0])) {
    const std::string& text = text_argument(run, "join", part);
    run.spend(text.size() + self.string()->size());
    if (!std::exchange(first, false)) out += *self.string();
    out += text;
  }
  return out;
}

enum class Side { left, right, both };

template <Side side>
Value pad_method(Run& run, const Value& self, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, "a method that fills up", {"width", "fillchar"}, 1);
  const std::string fill = bound[1] ? text_argument(run, "a method that fills up", *bound[1]) : " ";
  if (fill.empty() || utf8_length(fill[0]) != fill.size()) run.fail("a text is filled up with one character");
  const std::int64_t width = count_argument(run, "a method that fills up", bound[0]);
  if (side == Side::both) return centered(run, *self.string(), width, fill);
  const std::int64_t missing = missing_characters(run, *self.string(), width);
  const std::int64_t before = side == Side::left ? missing : 0;
  return padded(run, *self.string(), before, missing - before, fill);
}

Value zfill_method(Run& run, const Value& self, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, "zfill", {"width"}, 1);
  const std::string& text = *self.string();
  const std::int64_t missing = missing_characters(run, text, count_argument(run, "zfill", bound[0]));
  const std::size_t sign = text.starts_with('-') || text.starts_with('+') ? 1 : 0;
  return text.substr(0, sign) + padded(run, std::string_view(text).substr(sign), missing, 0, "0");
}

Value expandtabs_method(Run& run, const Value& self, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, "expandtabs", {"tabsize"}, 0);
  const std::int64_t size = bound[0] ? count_argument(run, "expandtabs", bound[0]) : 8;
  std::string out;
  std::int64_t column = 0;
  for (std::string_view rest = *self.string(); !rest.empty(); rest.remove_prefix(utf8_length(rest[0]))) {
    const char lead = rest[0];
    if (lead == '\t') {
      const std::int64_t blanks = size > 0 ? size - column % size : 0;
      run.spend(static_cast<std::size_t>(blanks));
      out.append(static_cast<std::size_t>(blanks), ' ');
      column += blanks;
      continue;
    }
    out += rest.substr(0, utf8_length(lead));
    column = lead == '\n' || lead == '\r' ? 0 : column + 1;
  }
  return out;
}

Value format_method(Run& run, const Value& self, const Arguments& arguments) {
  return brace_format(run, *self.string(), arguments);
}

Value format_map_method(Run& run, const Value& self, const Arguments& arguments) {
  const Bound bound = arguments.bind(run, "format_map", {"mapping"}, 1);
  if (bound[0]->dict() == nullptr) run.fail("format_map() takes a dict");
  Arguments named;
  for (const auto& [key, value] : bound[0]->dict()->items) {
    if (key.string() != nullptr) named.named.emplace_back(*key.string(), value);
  }
  return brace_format(run, *self.string(), named);
}

template <bool (*matches)(char32_t)>
Value every_character_method(Run& run, const Value& self, const Arguments& arguments) {
  arguments.bind(run, "a method that looks at characters", {}, 0);
  std::string_view text = *self.string();
  run.spend(text.size());
  if (text.empty()) return false;
  for (; !text.empty(); text.remove_prefix(utf8_length(text[0]))) {
    if (!matches(first_code_point(text))) return false;
  }
  return true;
}

utf8proc_category_t category(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }

bool is_space(char32_t c) { return is_python_space(c); }
bool is_alphabetic(char32_t c) { return category(c) >= UTF8PROC_CATEGORY_LU && category(c) <= UTF8PROC_CATEGORY_LO; }
bool is_decimal(char32_t c) { return category(c) == UTF8PROC_CATEGORY_ND; }

/// Numeric_Type=Digit of Unicode 14, which are no decimals: superscripts, digits in circles.
bool is_digit(char32_t c) {
  constexpr std::array<std::pair<char32_t, char32_t>, 20> ranges{
      {{0xb2, 0xb3},     {0xb9, 0xb9},       {0x1369, 0x1371},   {0x19da, 0x19da},   {0x2070, 0x2070},
       {0x2074, 0x2079}, {0x2080, 0x2089},   {0x2460, 0x2468},   {0x2474, 0x247c},   {0x2488, 0x2490},
       {0x24ea, 0x24ea}, {0x24f5, 0x24fd},   {0x24ff, 0x24ff},   {0x2776, 0x277e},   {0x2780, 0x2788},
       {0x278a, 0x2792}, {0x10a40, 0x10a43}, {0x10e60, 0x10e68}, {0x11052, 0x1105a}, {0x1f100, 0x1f10a}}};
  return is_decimal(c) ||
         std::any_of(ranges.begin(), ranges.end(), [c](const auto& r) { return c >= r.first && c <= r.second; });
}
bool is_number_character(char32_t c) {
  return category(c) >= UTF8PROC_CATEGORY_ND && category(c) <= UTF8PROC_CATEGORY_NO;
}
bool is_alphanumeric(char32_t c) { return is_alphabetic(c) || is_number_character(c); }

Value isascii_method(Run& run, const Value& self, const Arguments& arguments) {
  arguments.bind(run, "isascii", {}, 0);
  run.spend(self.string()->size());
  return std::all_of(self.string()->begin(), self.string()->end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

/// Some character has case, and all that have it are of one kind.
template <bool (*wanted)(char32_t), bool (*other)(char32_t)>
Value one_case_method(Run& run, const Value& self, const Arguments& arguments) {
  arguments.bind(run, "a method that looks at case", {}, 0);
  run.spend(self.string()->size());
  bool found = false;
  for (std::string_view rest = *self.string(); !rest.empty(); rest.remove_prefix(utf8_length(rest[0]))) {
    const char32_t c = first_code_point(rest);
    if (other(c) || is_title_case(c)) return false;
    found = found || wanted(c);
  }
  return found;
}
bool is_upper(char32_t c) { return is_upper_case(c); }
bool is_lower(char32_t c) { return is_lower_case(c); }

/// Upper case only behind characters without case, lower case only behind others.
Value istitle_method(Run& run, const Value& self, const Arguments& arguments) {
  arguments.bind(run, "istitle", {}, 0);
  run.spend(self.string()->size());
  bool found = false;
  bool in_word = false;
  for (std::string_view rest = *self.string(); !rest.empty(); rest.remove_prefix(utf8_length(rest[0]))) {
    const char32_t c = first_code_point(rest);
    const bool begins = is_upper_case(c) || is_title_case(c);
    if (begins ? in_word : is_lower_case(c) && !in_word) return false;
    in_word = begins || is_lower_case(c);
    found = found || in_word;
  }
  return found;
}

constexpr MethodRow rows[] = {
    {"strip", strip_method<true, true>},
    {"lstrip", strip_method<true, false>},
    {"rstrip", strip_method<false, true>},
    {"upper", case_method<upper>},
    {"lower", case_method<lower>},
    {"title", case_method<title>},
    {"capitalize", case_method<capitalize>},
    {"swapcase", case_method<swapcase>},
    {"casefold", case_method<casefold>},
    {"split", split_method},
    {"rsplit", rsplit_method},
    {"partition", partition_method<false>},
    {"rpartition", partition_method<true>},
    {"splitlines", splitlines_method},
    {"startswith", affix_method<false>},
    {"endswith", affix_method<true>},
    {"removeprefix", remove_affix_method<false>},
    {"removesuffix", remove_affix_method<true>},
    {"replace", replace_method},
    {"find", find_method<false, false>},
    {"rfind", find_method<true, false>},
    {"index", find_method<false, true>},
    {"rindex", find_method<true, true>},
    {"join", join_method},
    {"count", count_method},
    {"format", format_method},
    {"format_map", format_map_method},
    {"ljust", pad_method<Side::right>},
    {"rjust", pad_method<Side::left>},
    {"center", pad_method<Side::both>},
    {"zfill", zfill_method},
    {"expandtabs", expandtabs_method},
    {"isspace", every_character_method<is_space>},
    {"isalpha", every_character_method<is_alphabetic>},
    {"isdecimal", every_character_method<is_decimal>},
    {"isdigit", every_character_method<is_digit>},
    {"isalnum", every_character_method<is_alphanumeric>},
    {"isascii", isascii_method},
    {"isupper", one_case_method<is_upper, is_lower>},
    {"islower", one_case_method<is_lower, is_upper>},
    {"istitle", istitle_method},
    {"encode", nullptr},
    {"isidentifier", nullptr},
    {"isnumeric", nullptr},
    {"isprintable", nullptr},
    {"maketrans", nullptr},
    {"translate", nullptr},
};

}  // namespace

std::span<const MethodRow> string_methods() { return rows; }

}  // namespace pq::jinja
