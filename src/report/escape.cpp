#include "report/escape.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <string>

namespace pq::report {
namespace {

struct Character {
  utf8proc_int32_t point;  ///< -1: a byte that is not UTF-8
  std::string_view bytes;
};

Character take_character(std::string_view& text) {
  utf8proc_int32_t point = -1;
  const auto length = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                       static_cast<utf8proc_ssize_t>(text.size()), &point);
  const Character character{length > 0 ? point : -1, text.substr(0, length > 0 ? static_cast<std::size_t>(length) : 1)};
  text.remove_prefix(character.bytes.size());
  return character;
}

/// What is drawn at all, and stays where it is written. Of the separators, the space alone.
bool is_visible(utf8proc_int32_t point) {
  if (point == ' ') return true;
  switch (utf8proc_category(point)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return false;
    default:
      return true;
  }
}

bool is_mark(utf8proc_int32_t point) {
  const auto category = utf8proc_category(point);
  return category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_MC || category == UTF8PROC_CATEGORY_ME;
}

std::string escape_of(const Character& character) {
  switch (character.point) {
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    case -1:
      return fmt::format("\\x{:02x}", static_cast<unsigned char>(character.bytes.front()));
    default:
      return character.point < 0x80 ? fmt::format("\\x{:02x}", character.point)
                                    : fmt::format("\\u{{{:x}}}", character.point);
  }
}

/// The visible text, each character through `replace`: its replacement, or nothing for those that stay.
template <typename Replace>
std::string replaced(std::string_view text, const Replace& replace) {
  std::string out;
  for (const char c : visible_text(text)) {
    const std::string_view replacement = replace(c);
    replacement.empty() ? out.push_back(c) : void(out.append(replacement));
  }
  return out;
}

}  // namespace

std::string visible_text(std::string_view text) {
  constexpr int most_marks = 4;  // more of them on one letter cover the lines above
  std::string out;
  int marks = most_marks;  // a mark needs a letter to stand on
  while (!text.empty()) {
    const Character character = take_character(text);
    const bool mark = character.point >= 0 && is_mark(character.point);
    marks = mark ? marks + 1 : 0;
    const bool stays = character.point >= 0 && is_visible(character.point) && (!mark || marks <= most_marks);
    stays ? void(out.append(character.bytes)) : void(out.append(escape_of(character)));
  }
  return out;
}

std::string visible_token(std::string_view text) {
  if (text.empty()) return "(empty)";
  const std::string visible = visible_text(text);
  const std::size_t first = std::min(visible.find_first_not_of(' '), visible.size());
  const std::size_t end = visible.find_last_not_of(' ') + 1;
  std::string out;
  for (std::size_t i = 0; i < visible.size(); ++i) {
    if (i < first || i >= end) {
      out += "␣";
    } else {
      out += visible[i];
    }
  }
  return out;
}

std::string escape_markup(std::string_view text) {
  return replaced(text, [](char c) -> std::string_view {
    switch (c) {
      case '&':
        return "&amp;";
      case '<':
        return "&lt;";
      case '>':
        return "&gt;";
      case '"':
        return "&quot;";
      case '\'':
        return "&#39;";
      default:
        return {};
    }
  });
}

std::string escape_markdown(std::string_view text) {
  const std::string visible = visible_text(text);
  std::string out;
  for (std::size_t i = 0; i < visible.size(); ++i) {
    const char c = visible[i];
    const char next = i + 1 < visible.size() ? visible[i + 1] : ' ';
    constexpr std::string_view markup = "\\`*_{}[]#~$!";
    constexpr std::string_view by_number = "<>&|@";  // a backslash does not hold in every place where these act
    // What begins a list, a rule or a heading, alone at the beginning.
    const bool begins = i == 0 && (c == '-' || c == '+' || c == '=');
    // "https://", ":smile:" and "www." without being asked.
    const bool link = (c == ':' && next != ' ') || (c == '.' && i > 0 && (visible[i - 1] | 0x20) == 'w');
    const bool item = (c == '.' || c == ')') && i > 0 && visible.find_first_not_of("0123456789") == i && next == ' ';
    if (by_number.find(c) != std::string_view::npos || link) {
      out += fmt::format("&#{};", static_cast<int>(c));
      continue;
    }
    if (markup.find(c) != std::string_view::npos || begins || item) out += '\\';
    out += c;
  }
  return out;
}

std::string escape_latex(std::string_view text) {
  return replaced(text, [](char c) -> std::string_view {
    switch (c) {
      case '\\':
        return "\\textbackslash{}";
      case '~':
        return "\\textasciitilde{}";
      case '^':
        return "\\textasciicircum{}";
      case '<':
        return "\\textless{}";
      case '>':
        return "\\textgreater{}";
      case '|':
        return "\\textbar{}";
      case '"':
        return "\\textquotedbl{}";
      case '#':
        return "\\#";
      case '$':
        return "\\$";
      case '%':
        return "\\%";
      case '&':
        return "\\&";
      case '_':
        return "\\_";
      case '{':
        return "\\{";
      case '}':
        return "\\}";
      default:
        return {};
    }
  });
}

std::string escape_csv(std::string_view text) {
  std::string visible = visible_text(text);
  if (!visible.empty() && std::string_view("=+-@").find(visible.front()) != std::string_view::npos)
    visible.insert(0, "'");
  const bool spaced = visible.starts_with(' ') || visible.ends_with(' ');
  if (!spaced && visible.find_first_of(",\"") == std::string::npos) return visible;
  std::string quoted = "\"";
  for (const char c : visible) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + "\"";
}

std::string quote_yaml(std::string_view text) {
  std::string out = "\"";
  while (!text.empty()) {
    const Character character = take_character(text);
    if (character.point == '"' || character.point == '\\') {
      out += '\\';
      out += character.bytes;
    } else if (character.point == '\n') {
      out += "\\n";
    } else if (character.point < 0) {
      out += "\\uFFFD";
    } else if (is_visible(character.point)) {
      out += character.bytes;
    } else if (character.point <= 0xff) {
      out += fmt::format("\\x{:02X}", character.point);
    } else if (character.point <= 0xffff) {
      out += fmt::format("\\u{:04X}", character.point);
    } else {
      out += fmt::format("\\U{:08X}", character.point);
    }
  }
  return out + "\"";
}

}  // namespace pq::report
