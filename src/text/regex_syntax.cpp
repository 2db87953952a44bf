#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "base/error.h"
#include "text/regex.h"
#include "text/unicode.h"

namespace pq {
namespace {

constexpr std::array<std::string_view, 34> categories = {
    "L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc", "Me", "N", "Nd", "Nl", "No", "P",  "Pc", "Pd",
    "Ps", "Pe", "Pi", "Pf", "Po", "S",  "Sm", "Sc", "Sk", "So", "Z", "Zs", "Zl", "Zp", "Cc", "Cf", "Co"};

/// Walks the pattern once; each part is copied, rewritten or refused.
class Translator {
 public:
  Translator(std::string_view pattern, std::string_view where) : pattern_(pattern), where_(where) {}

  std::string run() {
    while (!done()) {
      switch (peek()) {
        case '\\':
          escape();
          break;
        case '[':
          open_class();
          break;
        case '(':
          group();
          break;
        case '{':
          counted();
          break;
        default:
          copy(1);
          break;
      }
    }
    return std::move(out_);
  }

 private:
  bool done() const { return at_ >= pattern_.size(); }
  char peek(std::size_t ahead = 0) const { return at_ + ahead < pattern_.size() ? pattern_[at_ + ahead] : '\0'; }
  void copy(std::size_t count) {
    out_ += pattern_.substr(at_, count);
    at_ += std::min(count, pattern_.size() - at_);
  }
  [[noreturn]] void refuse(std::string_view what) const {
    throw UnsupportedError(where_, fmt::format("regex '{}': {} is not supported", pattern_, what));
  }

  /// Items of a class for a general category. The property comes last, so that a hyphen behind it cannot make a range.
  static std::string category_items(std::string_view name) {
    std::string items;
    for (const CategoryRange& range : unicode_additions()) {
      if (!std::string_view(range.category, 2).starts_with(name)) continue;
      items += fmt::format("\\x{{{:x}}}-\\x{{{:x}}}", static_cast<std::uint32_t>(range.first),
                           static_cast<std::uint32_t>(range.last));
    }
    return items + fmt::format("\\p{{{}}}", name);
  }

  /// Items of a class for \w as Oniguruma has it: letters, marks, decimal digits, connectors, symbols that
  /// are letters in circles and squares, and the superscripts and fractions of Latin-1 alone.
  static std::string word_items() {
    std::string items = "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}";
    for (const CodeRange& range : alphabetic_symbols) {
      items += fmt::format("\\x{{{:x}}}-\\x{{{:x}}}", static_cast<std::uint32_t>(range.first),
                           static_cast<std::uint32_t>(range.last));
    }
    for (const std::string_view name : word_categories) items += category_items(name);
    return items;
  }

  /// Reads \s \d \w \p{..} and their negations at the current escape. Returns false when it is none of these.
  bool class_escape(std::string& items, bool& negated) {
    const char kind = peek(1);
    negated = kind == 'S' || kind == 'D' || kind == 'P' || kind == 'W';
    if (kind == 's' || kind == 'S') {
      items = "\\x09-\\x0d\\x{85}\\p{Z}";
      at_ += 2;
    } else if (kind == 'd' || kind == 'D') {
      items = category_items("Nd");
      at_ += 2;
    } else if (kind == 'w' || kind == 'W') {
      items = word_items();
      at_ += 2;
    } else if (kind == 'p' || kind == 'P') {
      const std::size_t close = pattern_.find('}', at_);
      if (peek(2) != '{' || close == std::string_view::npos) refuse("\\p without {category}");
      std::string_view name = pattern_.substr(at_ + 3, close - at_ - 3);
      if (name.starts_with('^')) {
        negated = !negated;
        name.remove_prefix(1);
      }
      if (std::find(categories.begin(), categories.end(), name) == categories.end()) {
        refuse(fmt::format("the property \\p{{{}}}", name));
      }
      items = category_items(name);
      at_ = close + 1;
    } else {
      return false;
    }
    return true;
  }

  /// An escape for one character, inside and outside of classes alike.
  void character_escape() {
    const char kind = peek(1);
    if (kind == '\0') refuse("a backslash at the end");
    if (kind == 'r' || kind == 'n' || kind == 't' || kind == 'f') {
      copy(2);
    } else if (kind == 'v') {
      out_ += "\\x0b";
      at_ += 2;
    } else if (kind == 'u' || kind == 'x') {
      code_point_escape(kind);
    } else if (std::isalnum(static_cast<unsigned char>(kind)) != 0) {
      refuse(fmt::format("the escape \\{}", kind));
    } else if (static_cast<unsigned char>(kind) >= 0x80) {
      ++at_;
      copy(utf8_length(peek()));
    } else {
      copy(2);
    }
  }

  /// \uHHHH, \x{H...}, \xHH.
  void code_point_escape(char kind) {
    std::string_view digits;
    std::size_t length = 0;
    if (kind == 'x' && peek(2) == '{') {
      const std::size_t close = pattern_.find('}', at_);
      if (close == std::string_view::npos) refuse("\\x{ without }");
      digits = pattern_.substr(at_ + 3, close - at_ - 3);
      length = close + 1 - at_;
    } else {
      digits = pattern_.substr(std::min(at_ + 2, pattern_.size()), kind == 'u' ? 4 : 2);
      length = 2 + digits.size();
      if (digits.size() != (kind == 'u' ? 4U : 2U)) refuse("a short \\u or \\x");
    }
    std::uint32_t value = 0;
    if (digits.empty() || digits.size() > 6) refuse(fmt::format("\\{}{}", kind, digits));
    for (const char digit : digits) {
      if (std::isxdigit(static_cast<unsigned char>(digit)) == 0) refuse(fmt::format("\\{}{}", kind, digits));
      const char lower = static_cast<char>(std::tolower(static_cast<unsigned char>(digit)));
      value = value * 16 + static_cast<std::uint32_t>(lower <= '9' ? lower - '0' : lower - 'a' + 10);
    }
    // Oniguruma reads \x80 and above as a byte, not as a character.
    if (peek(2) != '{' && kind == 'x' && value > 0x7f) refuse(fmt::format("the byte \\x{}", digits));
    out_ += fmt::format("\\x{{{:x}}}", value);
    at_ += length;
  }

  void escape() {
    std::string items;
    bool negated = false;
    if (class_escape(items, negated)) {
      out_ += (negated ? "[^" : "[") + items + "]";
    } else if (peek(1) == 'b' || peek(1) == 'B') {
      const std::string word = fmt::format("[{}]", word_items());
      out_ += peek(1) == 'b' ? fmt::format("(?:(?<={0})(?!{0})|(?<!{0})(?={0}))", word)
                             : fmt::format("(?:(?<={0})(?={0})|(?<!{0})(?!{0}))", word);
      at_ += 2;
    } else if (peek(1) == 'A' || peek(1) == 'z' || peek(1) == 'Z') {
      copy(2);
    } else {
      character_escape();
    }
  }

  void open_class() {
    copy(peek(1) == '^' ? 2 : 1);
    if (peek() == ']') refuse("']' as the first character of a class");
    bool first = true;
    while (!done() && peek() != ']') {
      if (peek() == '[') refuse("a class inside a class");
      if (peek() == '&' && peek(1) == '&') refuse("'&&' in a class");
      if (peek() == '\\') {
        class_member_escape(first);
      } else {
        copy(utf8_length(peek()));
      }
      first = false;
    }
    if (done())
      throw FormatError(where_, fmt::format("regex '{}' is invalid: missing ']'", pattern_), "correct the pattern");
    copy(1);
  }

  void class_member_escape(bool first) {
    const bool shorthand_not_space = peek(1) == 'S';
    const bool behind_hyphen = !first && at_ > 0 && pattern_[at_ - 1] == '-' && pattern_[at_ - 2] != '\\' &&
                               !(pattern_[at_ - 2] == '[' || pattern_[at_ - 2] == '^');
    std::string items;
    bool negated = false;
    if (!class_escape(items, negated)) {
      character_escape();
      return;
    }
    if (behind_hyphen || (peek() == '-' && peek(1) != ']')) refuse("a range from or to a class");
    if (!negated) {
      out_ += items;
    } else if (shorthand_not_space) {
      out_ += "\\x{180e}\\S";
    } else {
      refuse("a negated property inside a class");
    }
  }

  void group() {
    if (peek(1) == '*') refuse("'(*'");
    if (peek(1) != '?') {
      out_ += "(?:";
      ++at_;
      return;
    }
    for (const std::string_view opening : {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:", "(?-i:"}) {
      if (pattern_.substr(at_).starts_with(opening)) {
        copy(opening.size());
        return;
      }
    }
    refuse(fmt::format("the group '{}'", pattern_.substr(at_, 4)));
  }

  /// {n}, {n,}, {,m}, {n,m}; anything else is a brace.
  void counted() {
    const std::size_t close = pattern_.find('}', at_);
    const std::string_view inside =
        close == std::string_view::npos ? std::string_view{} : pattern_.substr(at_ + 1, close - at_ - 1);
    const bool quantifier = !inside.empty() && inside != "," && std::all_of(inside.begin(), inside.end(), [](char c) {
      return (c >= '0' && c <= '9') || c == ',';
    }) && std::count(inside.begin(), inside.end(), ',') <= 1;
    if (!quantifier) {
      out_ += "\\{";
      ++at_;
      return;
    }
    const char behind = close + 1 < pattern_.size() ? pattern_[close + 1] : '\0';
    // Oniguruma repeats the repeat here, PCRE2 makes it possessive.
    if (behind == '+') refuse("'+' behind a counted repeat");
    if (behind == '?' && inside.find(',') == std::string_view::npos) refuse("'?' behind {n}");
    out_ += inside.starts_with(',') ? fmt::format("{{0{}}}", inside) : fmt::format("{{{}}}", inside);
    at_ = close + 1;
  }

  std::string_view pattern_;
  std::string_view where_;
  std::size_t at_ = 0;
  std::string out_;
};

}  // namespace

std::string translate_regex(std::string_view pattern, std::string_view where) {
  return Translator(pattern, where).run();
}

}  // namespace pq
