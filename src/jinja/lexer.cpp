#include "jinja/lexer.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "jinja/text.h"
#include "text/unicode.h"

namespace pq::jinja {
namespace {

constexpr std::size_t max_template_bytes = std::size_t{1} << 20;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || static_cast<unsigned char>(c) >= 0x80;
}

/// Bytes of white space at the front of valid UTF-8.
std::size_t leading_space(std::string_view text) {
  std::size_t size = 0;
  while (size < text.size() && is_python_space(first_code_point(text.substr(size)))) size += utf8_length(text[size]);
  return size;
}
std::size_t trailing_space(std::string_view text) {
  std::size_t size = 0;
  while (size < text.size()) {
    const std::string_view last = last_character(text.substr(0, text.size() - size));
    if (!is_python_space(first_code_point(last))) break;
    size += last.size();
  }
  return size;
}

std::string unified_newlines(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\r') {
      if (i + 1 < text.size() && text[i + 1] == '\n') ++i;
      out += '\n';
    } else {
      out += text[i];
    }
  }
  if (out.ends_with('\n')) out.pop_back();  // keep_trailing_newline is off
  return out;
}

class Lexer {
 public:
  Lexer(std::string_view text, std::string_view where)
      : where_(where), source_(unified_newlines(text)), rest_(source_) {}

  std::vector<Token> run() {
    while (!rest_.empty()) outside();
    add(TokenKind::end, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void error(std::string_view what) const { template_error(where_, line_, what); }

  void add(TokenKind kind, std::string_view text) { tokens_.push_back({kind, std::string(text), line_}); }

  std::string_view take(std::size_t size) {
    const std::string_view taken = rest_.substr(0, size);
    line_ += static_cast<int>(std::count(taken.begin(), taken.end(), '\n'));
    if (!taken.empty()) at_line_start_ = taken.back() == '\n';
    rest_.remove_prefix(size);
    return taken;
  }

  /// Text that stands before a tag, less what the tag's sign and lstrip_blocks remove from its end.
  void add_text(std::string_view text, char sign, bool strips_line, bool at_line_start) {
    if (sign == '-') {
      text.remove_suffix(trailing_space(text));
    } else if (sign != '+' && strips_line) {
      const std::size_t newline = text.rfind('\n');
      const std::size_t begin = newline == std::string_view::npos ? 0 : newline + 1;
      if ((begin > 0 || at_line_start) && leading_space(text.substr(begin)) == text.size() - begin)
        text = text.substr(0, begin);
    }
    if (!text.empty()) add(TokenKind::text, text);
  }

  /// Text up to the next tag, and that tag.
  void outside() {
    std::size_t at = rest_.find('{');
    while (at != std::string_view::npos &&
           (at + 1 == rest_.size() || std::string_view("{%#").find(rest_[at + 1]) == std::string_view::npos))
      at = rest_.find('{', at + 1);
    const bool at_line_start = at_line_start_;
    if (at == std::string_view::npos) {
      add_text(rest_, '+', false, at_line_start);
      take(rest_.size());
      return;
    }
    const char kind = rest_[at + 1];
    const char sign = at + 2 < rest_.size() ? rest_[at + 2] : ' ';
    add_text(rest_.substr(0, at), sign, kind != '{', at_line_start);
    take(at + 2);
    if (sign == '-' || sign == '+') take(1);
    if (kind == '#') {
      comment();
    } else if (kind == '%' && !raw()) {
      inside(TokenKind::statement_begin, TokenKind::statement_end, "%}");
    } else if (kind == '{') {
      inside(TokenKind::print_begin, TokenKind::print_end, "}}");
    }
  }

  /// Whether a tag ends here; if so takes it, and the white space behind that it removes.
  bool take_end(std::string_view end) {
    std::string_view at = rest_;
    const char sign = at.empty() ? ' ' : at[0];
    const bool has_sign = sign == '-' || (sign == '+' && end != "}}");
    if (has_sign) at.remove_prefix(1);
    if (!at.starts_with(end)) return false;
    at.remove_prefix(end.size());
    if (sign == '-') {
      at.remove_prefix(leading_space(at));
    } else if (!has_sign && end != "}}" && at.starts_with('\n')) {
      at.remove_prefix(1);  // trim_blocks
    }
    take(rest_.size() - at.size());
    return true;
  }

  void comment() {
    for (;;) {
      const std::size_t at = rest_.find("#}");
      if (at == std::string_view::npos) error("a comment does not end");
      const bool has_sign = at > 0 && (rest_[at - 1] == '-' || rest_[at - 1] == '+');
      take(has_sign ? at - 1 : at);
      if (take_end("#}")) return;
    }
  }

  /// After "{%": whether this is {% raw %}; if so takes it with its text and {% endraw %}.
  bool raw() {
    std::string_view at = rest_.substr(leading_space(rest_));
    if (!at.starts_with("raw")) return false;
    at.remove_prefix(3);
    at.remove_prefix(leading_space(at));
    if (!at.starts_with("%}") && !at.starts_with("-%}")) return false;
    const bool strips = at[0] == '-';
    at.remove_prefix(strips ? 3 : 2);
    if (strips) at.remove_prefix(leading_space(at));
    take(rest_.size() - at.size());
    const bool at_line_start = at_line_start_;
    const std::string_view body = rest_;
    for (std::size_t found = body.find("{%"); found != std::string_view::npos; found = body.find("{%", found + 2)) {
      std::string_view after = body.substr(found + 2);
      const char sign = after.empty() ? ' ' : after[0];
      if (sign == '-' || sign == '+') after.remove_prefix(1);
      after.remove_prefix(leading_space(after));
      if (!after.starts_with("endraw")) continue;
      after.remove_prefix(6);
      after.remove_prefix(leading_space(after));
      if (!after.starts_with("%}") && !after.starts_with("-%}") && !after.starts_with("+%}")) continue;
      add_text(body.substr(0, found), sign, true, at_line_start);
      take(body.size() - after.size());
      take_end("%}");
      return true;
    }
    error("{% raw %} has no {% endraw %}");
  }

  void inside(TokenKind begin, TokenKind end_kind, std::string_view end) {
    add(begin, "");
    const int begin_line = line_;
    std::string brackets;
    for (;;) {
      take(leading_space(rest_));
      if (rest_.empty()) {
        line_ = begin_line;
        error("a tag does not end");
      }
      const int line = line_;
      if (brackets.empty() && take_end(end)) {
        tokens_.push_back({end_kind, "", line});
        return;
      }
      const char c = rest_[0];
      if (is_digit(c)) {
        number();
      } else if (is_name_start(c)) {
        std::size_t size = 1;
        while (size < rest_.size() && (is_name_start(rest_[size]) || is_digit(rest_[size]))) ++size;
        add(TokenKind::name, take(size));
      } else if (c == '"' || c == '\'') {
        string();
      } else {
        sign(brackets);
      }
    }
  }

  void number() {
    const auto digits = [&](std::size_t from) {
      while (from < rest_.size() &&
             (is_digit(rest_[from]) || (rest_[from] == '_' && from + 1 < rest_.size() && is_digit(rest_[from + 1]))))
        ++from;
      return from;
    };
    std::size_t size = digits(0);
    bool is_real = false;
    const bool after_dot = !tokens_.empty() && tokens_.back().kind == TokenKind::sign && tokens_.back().text == ".";
    if (!after_dot && size + 1 < rest_.size() && rest_[size] == '.' && is_digit(rest_[size + 1])) {
      size = digits(size + 1);
      is_real = true;
    }
    if (!after_dot && size < rest_.size() && (rest_[size] == 'e' || rest_[size] == 'E')) {
      std::size_t exponent = size + 1;
      if (exponent < rest_.size() && (rest_[exponent] == '+' || rest_[exponent] == '-')) ++exponent;
      if (exponent < rest_.size() && is_digit(rest_[exponent])) {
        size = digits(exponent);
        is_real = true;
      }
    }
    std::string text(take(size));
    text.erase(std::remove(text.begin(), text.end(), '_'), text.end());
    add(is_real ? TokenKind::real : TokenKind::integer, text);
  }

  void sign(std::string& brackets) {
    static constexpr std::string_view signs[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
                                                 "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
    const auto found =
        std::find_if(std::begin(signs), std::end(signs), [&](std::string_view s) { return rest_.starts_with(s); });
    if (found == std::end(signs))
      error(fmt::format("unexpected character '{}'", rest_.substr(0, utf8_length(rest_[0]))));
    const char c = (*found)[0];
    if (c == '(' || c == '[' || c == '{') {
      brackets += c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (c == ')' || c == ']' || c == '}') {
      if (brackets.empty() || brackets.back() != c) error(fmt::format("unexpected '{}'", c));
      brackets.pop_back();
    }
    add(TokenKind::sign, take(found->size()));
  }

  void string() {
    const char quote = rest_[0];
    std::size_t size = 1;
    while (size < rest_.size() && rest_[size] != quote) size += rest_[size] == '\\' ? 2 : 1;
    if (size >= rest_.size()) error("a string does not end");
    const int line = line_;
    std::string text = unescaped(rest_.substr(1, size - 1));
    take(size + 1);
    tokens_.push_back({TokenKind::string, std::move(text), line});
  }

  /// Python's escapes.
  std::string unescaped(std::string_view text) const {
    std::string out;
    while (!text.empty()) {
      const std::size_t slash = text.find('\\');
      out += text.substr(0, slash);
      if (slash == std::string_view::npos || slash + 1 == text.size()) break;
      const char c = text[slash + 1];
      text.remove_prefix(slash + 2);
      constexpr std::string_view letters = "abfnrtv\\'\"";
      constexpr std::string_view values = "\a\b\f\n\r\t\v\\'\"";
      if (const std::size_t at = letters.find(c); at != std::string_view::npos) {
        out += values[at];
      } else if (c == 'x' || c == 'u' || c == 'U') {
        append_code(text, c == 'x' ? 2 : c == 'u' ? 4 : 8, 16, out);
      } else if (c >= '0' && c <= '7') {
        std::size_t digits = 0;
        while (digits < 2 && digits < text.size() && text[digits] >= '0' && text[digits] <= '7') ++digits;
        std::string octal = c + std::string(text.substr(0, digits));
        text.remove_prefix(digits);
        std::string_view view = octal;
        append_code(view, octal.size(), 8, out);
      } else if (c == 'N') {
        error("the escape \\N{...} is not supported");
      } else if (c != '\n') {
        out += {'\\', c};
      }
    }
    return out;
  }

  void append_code(std::string_view& text, std::size_t digits, int base, std::string& out) const {
    std::uint32_t code = 0;
    const char* const end = text.data() + std::min(digits, text.size());
    const auto [stop, result] = std::from_chars(text.data(), end, code, base);
    if (text.size() < digits || result != std::errc{} || stop != end || code > 0x10ffff ||
        (code >= 0xd800 && code < 0xe000))
      error("a string has an escape that is no character");
    append_utf8(out, static_cast<char32_t>(code));
    text.remove_prefix(digits);
  }

  std::string where_;
  std::string source_;
  std::string_view rest_;
  std::vector<Token> tokens_;
  int line_ = 1;
  bool at_line_start_ = true;
};

}  // namespace

void template_error(std::string_view where, int line, std::string_view what) {
  throw FormatError(fmt::format("{}, line {}", where, line), what,
                    "mend the chat template, or choose another with --chat-template");
}

std::vector<Token> tokenize_template(std::string_view text, std::string_view where) {
  if (text.size() > max_template_bytes) template_error(where, 1, "the chat template is larger than 1 MiB");
  if (const std::size_t at = find_invalid_utf8(text); at != std::string_view::npos)
    template_error(where, 1, fmt::format("byte {} of the chat template is not valid UTF-8", at));
  return Lexer(text, where).run();
}

}  // namespace pq::jinja
