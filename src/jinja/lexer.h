#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pq::jinja {

enum class TokenKind {
  text,             ///< what stands outside of tags
  print_begin,      ///< {{
  print_end,        ///< }}
  statement_begin,  ///< {%
  statement_end,    ///< %}
  name,
  string,  ///< escapes resolved
  integer,
  real,
  sign,  ///< an operator or bracket
  end,
};

struct Token {
  TokenKind kind = TokenKind::end;
  std::string text;
  int line = 1;
};

/// The tokens of a Jinja template, comments left out, white space around tags removed as Jinja does it with
/// trim_blocks and lstrip_blocks (the way `transformers` sets them). The last one is `end`. Throws FormatError, with
/// the line, for text that is not UTF-8, larger than 1 MiB, or has a tag that does not end.
/// Source: jinja2/lexer.py.
std::vector<Token> tokenize_template(std::string_view text, std::string_view where);

[[noreturn]] void template_error(std::string_view where, int line, std::string_view what);

}  // namespace pq::jinja
