#include "jinja/formatting.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "jinja/format_spec.h"
#include "jinja/members.h"
#include "jinja/output.h"
#include "text/unicode.h"

namespace pq::jinja {
namespace {

/// Python's ascii(x).
std::string to_ascii(Run& run, const Value& value) {
  const std::string text = to_repr(run, value);
  run.spend(10 * text.size());
  std::string out;
  for (std::string_view rest = text; !rest.empty(); rest.remove_prefix(utf8_length(rest[0]))) {
    const auto code = static_cast<std::uint32_t>(first_code_point(rest));
    if (code < 0x80) {
      out += rest[0];
    } else {
      out += code < 0x100     ? fmt::format("\\x{:02x}", code)
             : code < 0x10000 ? fmt::format("\\u{:04x}", code)
                              : fmt::format("\\U{:08x}", code);
    }
  }
  return out;
}

/// The values of a % format, one by one or by name.
class PercentValues {
 public:
  PercentValues(Run& run, const Value& value) : run_(run), value_(value) {
    const Sequence* sequence = value.sequence();
    if (sequence != nullptr && sequence->kind == SequenceKind::tuple) tuple_ = sequence;
  }

  Value next() {
    const std::size_t size = tuple_ == nullptr ? 1 : tuple_->items.size();
    if (at_ >= size) run_.fail("a format has more conversions than values");
    const Value& found = tuple_ == nullptr ? value_ : tuple_->items[at_];
    ++at_;
    return found;
  }

  Value named(const std::string& name) {
    const Dict* dict = value_.dict();
    if (dict == nullptr) run_.fail("a format with names takes a dict");
    const Value* found = dict->find(run_, name);
    if (found == nullptr) run_.fail(fmt::format("a format names '{}', which is not in the dict", name));
    return *found;
  }

  /// Whole lists and dicts may stay unused, as in Python.
  void require_used() const {
    const bool is_container = value_.dict() != nullptr || (value_.sequence() != nullptr && tuple_ == nullptr);
    if (at_ < (tuple_ == nullptr ? 1 : tuple_->items.size()) && !is_container)
      run_.fail("a format has fewer conversions than values");
  }

 private:
  Run& run_;
  const Value& value_;
  const Sequence* tuple_ = nullptr;
  std::size_t at_ = 0;
};

class PercentFormatter {
 public:
  PercentFormatter(Run& run, std::string_view format, const Value& value)
      : run_(run), rest_(format), values_(run, value) {}

  std::string format() {
    std::string out;
    for (;;) {
      const std::size_t percent = std::min(rest_.find('%'), rest_.size());
      run_.spend(percent);
      out += rest_.substr(0, percent);
      rest_.remove_prefix(percent);
      if (rest_.empty()) break;
      rest_.remove_prefix(1);
      out += conversion();
    }
    values_.require_used();
    return out;
  }

 private:
  char take() {
    if (rest_.empty()) run_.fail("a format ends within a conversion");
    const char taken = rest_[0];
    rest_.remove_prefix(1);
    return taken;
  }

  std::int64_t whole(const Value& value, std::string_view what) {
    const auto number = value.as_int();
    if (!number) run_.fail(fmt::format("{} takes an int, not a {}", what, value.type_name()));
    return *number;
  }

  /// "12" or "*".
  std::int64_t size() {
    if (rest_.starts_with('*')) {
      rest_.remove_prefix(1);
      return whole(values_.next(), "the format '*'");
    }
    std::int64_t number = 0;
    const auto [end, code] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), number);
    if (code == std::errc::result_out_of_range) run_.unsupported("a format with a number beyond 64 bits");
    if (code != std::errc{} || number < 0) return 0;
    rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
    return number;
  }

  std::string conversion() {
    std::optional<Value> named;
    if (rest_.starts_with('(')) {
      const std::size_t close = rest_.find(')');
      if (close == std::string_view::npos) run_.fail("a format has '(' without ')'");
      named = values_.named(std::string(rest_.substr(1, close - 1)));
      rest_.remove_prefix(close + 1);
    }
    FormatSpec spec;
    spec.align = '>';
    bool zeros = false;
    for (; !rest_.empty() && std::string_view("-+ 0#").find(rest_[0]) != std::string_view::npos;
         rest_.remove_prefix(1)) {
      if (rest_[0] == '-') spec.align = '<';
      if (rest_[0] == '+' || (rest_[0] == ' ' && spec.sign != '+')) spec.sign = rest_[0];
      zeros = zeros || rest_[0] == '0';
      spec.alternate = spec.alternate || rest_[0] == '#';
    }
    spec.width = size();
    if (spec.width < 0) {
      spec.align = '<';
      spec.width = spec.width == INT64_MIN ? INT64_MAX : -spec.width;
    }
    if (rest_.starts_with('.')) {
      rest_.remove_prefix(1);
      spec.precision = std::max<std::int64_t>(size(), 0);
    }
    while (!rest_.empty() && std::string_view("hlL").find(rest_[0]) != std::string_view::npos) rest_.remove_prefix(1);
    spec.type = take();
    if (spec.type == '%') return "%";
    const Value value = named ? *named : values_.next();
    return converted(spec, zeros, value);
  }

  std::string converted(FormatSpec spec, bool zeros, const Value& value) {
    const auto fill_with_zeros = [&] {
      if (!zeros || spec.align == '<') return;
      spec.fill = "0";
      spec.align = '=';
    };
    switch (spec.type) {
      case 's':
        return format_text(run_, spec, to_text(run_, value));
      case 'r':
        return format_text(run_, spec, to_repr(run_, value));
      case 'a':
        return format_text(run_, spec, to_ascii(run_, value));
      case 'c':
        return format_text(run_, spec, character(value));
      case 'd':
      case 'i':
      case 'u':
        fill_with_zeros();
        spec.type = 'd';
        return format_whole(run_, spec, truncated(value));
      case 'x':
      case 'X':
      case 'o':
        fill_with_zeros();
        return format_whole(run_, spec, whole(value, fmt::format("the format %{}", spec.type)));
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G': {
        const auto real = value.as_float();
        if (!real) run_.fail(fmt::format("the format %{} takes a number, not a {}", spec.type, value.type_name()));
        fill_with_zeros();
        return format_real(run_, spec, *real);
      }
      default:
        run_.fail(fmt::format("there is no format %{}", spec.type));
    }
  }

  std::int64_t truncated(const Value& value) {
    if (!value.is_float()) return whole(value, "the format %d");
    const double real = *value.as_float();
    if (!std::isfinite(real)) run_.fail("the format %d takes no infinity");
    if (std::abs(real) >= 9.2e18) run_.unsupported("a whole number beyond 64 bits");
    return static_cast<std::int64_t>(real);
  }

  std::string character(const Value& value) {
    std::string text;
    if (value.string() != nullptr) {
      text = *value.string();
      if (text.empty() || utf8_length(text[0]) != text.size()) run_.fail("the format %c takes one character");
      return text;
    }
    const std::int64_t code = whole(value, "the format %c");
    if (code < 0 || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) run_.fail("the format %c takes a character");
    append_utf8(text, static_cast<char32_t>(code));
    return text;
  }

  Run& run_;
  std::string_view rest_;
  PercentValues values_;
};

class BraceFormatter {
 public:
  BraceFormatter(Run& run, const Arguments& arguments) : run_(run), arguments_(arguments) {}

  std::string format(std::string_view rest, int depth) {
    std::string out;
    while (!rest.empty()) {
      const std::size_t brace = std::min(rest.find_first_of("{}"), rest.size());
      run_.spend(brace + 1);
      out += rest.substr(0, brace);
      rest.remove_prefix(brace);
      if (rest.empty()) break;
      if (rest.size() > 1 && rest[0] == rest[1] && depth == 0) {
        out += rest[0];
        rest.remove_prefix(2);
        continue;
      }
      if (rest[0] == '}') run_.fail("a format has '}' without '{'");
      const std::size_t end = field_end(rest);
      out += field(rest.substr(1, end - 1), depth);
      rest.remove_prefix(end + 1);
    }
    return out;
  }

 private:
  /// Of the field that begins `text`.
  std::size_t field_end(std::string_view text) {
    int open = 0;
    bool in_index = false;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '[') in_index = true;
      if (text[i] == ']') in_index = false;
      if (in_index && open == 1) continue;
      if (text[i] == '{') ++open;
      if (text[i] == '}' && --open == 0) return i;
    }
    run_.fail("a format has '{' without '}'");
  }

  std::string field(std::string_view text, int depth) {
    if (depth > 1) run_.fail("a format is nested too deep");
    const std::size_t name_end = std::min(find_outside_index(text), text.size());
    const Value found = value_of(text.substr(0, name_end));
    text.remove_prefix(name_end);
    char conversion = '\0';
    if (text.starts_with('!')) {
      if (text.size() < 2 || (text.size() > 2 && text[2] != ':')) run_.fail("a format has a '!' without a conversion");
      conversion = text[1];
      text.remove_prefix(2);
    }
    const std::string spec = text.empty() ? std::string() : format(text.substr(1), depth + 1);
    switch (conversion) {
      case '\0':
        return format_value(run_, spec, found);
      case 's':
        return format_value(run_, spec, to_text(run_, found));
      case 'r':
        return format_value(run_, spec, to_repr(run_, found));
      case 'a':
        return format_value(run_, spec, to_ascii(run_, found));
      default:
        run_.fail(fmt::format("there is no conversion '!{}'", conversion));
    }
  }

  /// Where the name of a field ends: at a '!' or ':' that is no part of an index.
  static std::size_t find_outside_index(std::string_view text) {
    bool in_index = false;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '[') in_index = true;
      if (text[i] == ']') in_index = false;
      if (!in_index && (text[i] == '!' || text[i] == ':')) return i;
    }
    return std::string_view::npos;
  }

  static std::optional<std::int64_t> number(std::string_view text) {
    std::int64_t value = 0;
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool is_number = code == std::errc{} && end == text.data() + text.size() && text[0] != '-';
    return is_number ? std::optional(value) : std::nullopt;
  }

  Value argument(std::string_view name) {
    std::optional<std::int64_t> index = number(name);
    if (name.empty() || index) {
      if (counts_ != name.empty() && counted_) run_.fail("a format mixes fields with and without numbers");
      counts_ = name.empty();
      counted_ = true;
      if (name.empty()) index = next_++;
      if (*index >= static_cast<std::int64_t>(arguments_.positional.size()))
        run_.fail(fmt::format("a format asks for argument {}, there are {}", *index, arguments_.positional.size()));
      return arguments_.positional[static_cast<std::size_t>(*index)];
    }
    for (const auto& [known, value] : arguments_.named) {
      if (known == name) return value;
    }
    run_.fail(fmt::format("a format asks for the argument '{}', which is not there", name));
  }

  Value value_of(std::string_view path) {
    const std::size_t end = std::min(path.find_first_of(".["), path.size());
    Value value = argument(path.substr(0, end));
    for (path.remove_prefix(end); !path.empty();) {
      if (path[0] == '.') {
        const std::size_t stop = std::min(path.find_first_of(".[", 1), path.size());
        value = attribute(run_, value, path.substr(1, stop - 1));
        path.remove_prefix(stop);
      } else if (const std::size_t close = path.find(']'); path[0] == '[' && close != std::string_view::npos) {
        const std::string_view key = path.substr(1, close - 1);
        const auto index = number(key);
        value = item(run_, value, index ? Value(*index) : Value(std::string(key)));
        path.remove_prefix(close + 1);
      } else {
        run_.fail("a format has a field that is neither a name nor an index");
      }
    }
    return value;
  }

  Run& run_;
  const Arguments& arguments_;
  bool counted_ = false;  // a field with or without a number has come
  bool counts_ = false;   // it was without
  std::int64_t next_ = 0;
};

}  // namespace

std::string percent_format(Run& run, std::string_view format, const Value& value) {
  return PercentFormatter(run, format, value).format();
}

std::string brace_format(Run& run, std::string_view format, const Arguments& arguments) {
  return BraceFormatter(run, arguments).format(format, 0);
}

double round_half_even(double value, std::int64_t digits) {
  if (!std::isfinite(value) || digits > 300) return value;
  if (digits < -308) return 0;
  if (digits <= 0) {
    const double unit = std::pow(10.0, static_cast<double>(-digits));
    return std::nearbyint(value / unit) * unit;
  }
  // Written out in decimal, every binary fraction is rounded as it is.
  std::array<char, 700> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%.*f", static_cast<int>(digits), value);
  return std::strtod(buffer.data(), nullptr);
}

}  // namespace pq::jinja
