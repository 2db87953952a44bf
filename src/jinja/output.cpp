#include "jinja/output.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "jinja/text.h"
#include "text/unicode.h"

namespace pq::jinja {
namespace {

bool is_printable(char32_t c) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_ZS:
      return c == ' ';
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
      return false;
    default:
      return true;
  }
}

void quote(std::string_view text, std::string& out) {
  const bool doubles = text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos;
  const char quote = doubles ? '"' : '\'';
  out += quote;
  for (; !text.empty(); text.remove_prefix(utf8_length(text[0]))) {
    const char32_t c = first_code_point(text);
    const auto code = static_cast<std::uint32_t>(c);
    if (c == static_cast<unsigned char>(quote) || c == '\\') {
      out += {'\\', static_cast<char>(c)};
    } else if (c == '\n' || c == '\r' || c == '\t') {
      out += c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t";
    } else if (is_printable(c)) {
      out += text.substr(0, utf8_length(text[0]));
    } else if (code < 0x100) {
      fmt::format_to(std::back_inserter(out), "\\x{:02x}", code);
    } else if (code < 0x10000) {
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", code);
    } else {
      fmt::format_to(std::back_inserter(out), "\\U{:08x}", code);
    }
  }
  out += quote;
}

class Printer {
 public:
  Printer(Run& run, std::string& out) : run_(run), out_(out) {}

  void print(const Value& value) {
    run_.spend(8);
    if (const std::string* text = value.string()) {
      run_.spend(2 * text->size());
      quote(*text, out_);
    } else if (const Sequence* sequence = value.sequence()) {
      print(*sequence);
    } else if (const Dict* dict = value.dict()) {
      out_ += '{';
      for (const auto& [key, item] : dict->items) {
        if (&key != &dict->items.front().first) out_ += ", ";
        print(key);
        out_ += ": ";
        print(item);
      }
      out_ += '}';
    } else if (value.is_undefined()) {
      out_ += "Undefined";
    } else if (value.is_none()) {
      out_ += "None";
    } else if (value.is_bool()) {
      out_ += value.truthy() ? "True" : "False";
    } else if (const auto whole = value.as_int()) {
      out_ += std::to_string(*whole);
    } else if (const auto real = value.as_float()) {
      out_ += float_text(*real);
    } else {
      run_.unsupported(fmt::format("a {} cannot be printed", value.type_name()));
    }
  }

 private:
  void print(const Sequence& sequence) {
    if (sequence.kind == SequenceKind::generator || sequence.kind == SequenceKind::range)
      run_.unsupported("what a filter or range() yields cannot be printed; use |list first");
    const bool is_tuple = sequence.kind == SequenceKind::tuple;
    const bool is_view = sequence.kind != SequenceKind::list && !is_tuple;
    if (sequence.kind == SequenceKind::dict_keys) out_ += "dict_keys(";
    if (sequence.kind == SequenceKind::dict_values) out_ += "dict_values(";
    if (sequence.kind == SequenceKind::dict_items) out_ += "dict_items(";
    out_ += is_tuple ? '(' : '[';
    for (std::size_t i = 0; i < sequence.items.size(); ++i) {
      if (i > 0) out_ += ", ";
      print(sequence.items[i]);
    }
    if (is_tuple && sequence.items.size() == 1) out_ += ',';
    out_ += is_tuple ? ')' : ']';
    if (is_view) out_ += ')';
  }

  Run& run_;
  std::string& out_;
};

void append_json_string(std::string_view text, bool ensure_ascii, std::string& out) {
  out += '"';
  for (; !text.empty(); text.remove_prefix(utf8_length(text[0]))) {
    const auto code = static_cast<std::uint32_t>(first_code_point(text));
    constexpr std::string_view escaped = "\"\\\n\r\t\f\b";
    constexpr std::string_view letters = "\"\\nrtfb";
    const std::size_t at = code < 0x80 ? escaped.find(static_cast<char>(code)) : std::string_view::npos;
    if (at != std::string_view::npos) {
      out += {'\\', letters[at]};
    } else if (code < 0x20 || (ensure_ascii && code > 0x7e && code < 0x10000)) {
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", code);
    } else if (ensure_ascii && code >= 0x10000) {
      const std::uint32_t rest = code - 0x10000;
      fmt::format_to(std::back_inserter(out), "\\u{:04x}\\u{:04x}", 0xd800 + (rest >> 10), 0xdc00 + (rest & 0x3ffU));
    } else {
      out += text.substr(0, utf8_length(text[0]));
    }
  }
  out += '"';
}

class JsonPrinter {
 public:
  JsonPrinter(Run& run, const JsonStyle& style, std::string& out) : run_(run), style_(style), out_(out) {}

  void print(const Value& value) {
    run_.spend(8);
    if (const std::string* text = value.string()) {
      run_.spend(2 * text->size());
      append_json_string(*text, style_.ensure_ascii, out_);
    } else if (const Sequence* sequence = value.sequence(); sequence != nullptr && is_array(*sequence)) {
      print_nested('[', ']', sequence->items.size(), [&](std::size_t i) { print(sequence->items[i]); });
    } else if (const Dict* dict = value.dict()) {
      print_dict(*dict);
    } else if (value.is_none() || value.is_number()) {
      out_ += scalar(value);
    } else {
      run_.fail(fmt::format("a value of type {} cannot become JSON", value.type_name()));
    }
  }

 private:
  static bool is_array(const Sequence& sequence) {
    return sequence.kind == SequenceKind::list || sequence.kind == SequenceKind::tuple;
  }

  static std::string scalar(const Value& value) {
    if (value.is_none()) return "null";
    if (value.is_bool()) return value.truthy() ? "true" : "false";
    if (const auto whole = value.as_int()) return std::to_string(*whole);
    const double real = *value.as_float();
    if (std::isnan(real)) return "NaN";
    if (std::isinf(real)) return real < 0 ? "-Infinity" : "Infinity";
    return float_text(real);
  }

  void print_dict(const Dict& dict) {
    std::vector<const std::pair<Value, Value>*> entries;
    for (const auto& entry : dict.items) entries.push_back(&entry);
    if (style_.sort_keys) {
      std::stable_sort(entries.begin(), entries.end(),
                       [&](const auto* a, const auto* b) { return compare(run_, a->first, b->first) < 0; });
    }
    print_nested('{', '}', entries.size(), [&](std::size_t i) {
      const Value& key = entries[i]->first;
      if (key.string() == nullptr && !key.is_none() && !key.is_number())
        run_.fail(fmt::format("a {} cannot be a key in JSON", key.type_name()));
      run_.spend(key.string() == nullptr ? 0 : 2 * key.string()->size());
      append_json_string(key.string() == nullptr ? scalar(key) : *key.string(), style_.ensure_ascii, out_);
      run_.spend(style_.key_separator.size());
      out_ += style_.key_separator;
      print(entries[i]->second);
    });
  }

  template <typename Print>
  void print_nested(char open, char close, std::size_t count, const Print& print_item) {
    out_ += open;
    ++level_;
    for (std::size_t i = 0; i < count; ++i) {
      if (i > 0) {
        run_.spend(style_.item_separator.size());
        out_ += style_.item_separator;
      }
      new_line();
      print_item(i);
    }
    --level_;
    if (count > 0) new_line();
    out_ += close;
  }

  void new_line() {
    if (!style_.indent) return;
    run_.spend(1 + level_ * style_.indent->size());
    out_ += '\n';
    for (std::size_t i = 0; i < level_; ++i) out_ += *style_.indent;
  }

  Run& run_;
  const JsonStyle& style_;
  std::string& out_;
  std::size_t level_ = 0;
};

}  // namespace

std::string to_repr(Run& run, const Value& value) {
  std::string out;
  Printer(run, out).print(value);
  return out;
}

std::string to_text(Run& run, const Value& value) {
  if (value.is_undefined()) return {};
  if (value.string() == nullptr) return to_repr(run, value);
  run.spend(value.string()->size());
  return *value.string();
}

std::string to_json(Run& run, const Value& value, const JsonStyle& style) {
  std::string out;
  JsonPrinter(run, style, out).print(value);
  return out;
}

}  // namespace pq::jinja
