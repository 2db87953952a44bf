#include "jinja/token_reader.h"

#include <fmt/format.h>

#include "base/error.h"

namespace pq::jinja {
namespace {

std::string shown(const Token& token) {
  switch (token.kind) {
    case TokenKind::end:
      return "the end of the template";
    case TokenKind::text:
      return "text";
    case TokenKind::print_begin:
      return "'{{'";
    case TokenKind::print_end:
      return "'}}'";
    case TokenKind::statement_begin:
      return "'{%'";
    case TokenKind::statement_end:
      return "'%}'";
    default:
      return fmt::format("'{}'", token.text.substr(0, 40));
  }
}

}  // namespace

TokenReader::Level::Level(TokenReader& reader) : reader_(reader) {
  if (reader.level_ >= max_depth) reader.unsupported("the template is nested too deep");
  ++reader.level_;
}

void TokenReader::error(std::string_view what) const { template_error(where_, current().line, what); }
void TokenReader::unsupported(std::string_view what, int line) const {
  throw UnsupportedError(fmt::format("{}, line {}", where_, line), what,
                         "choose another template with --chat-template");
}

bool TokenReader::take_sign(std::string_view text) {
  if (!is_sign(text)) return false;
  next();
  return true;
}
bool TokenReader::take_name(std::string_view text) {
  if (!is_name(text)) return false;
  next();
  return true;
}
void TokenReader::expect_sign(std::string_view text) {
  if (!take_sign(text)) error(fmt::format("expected '{}', found {}", text, shown(current())));
}
std::string TokenReader::expect_name() {
  if (current().kind != TokenKind::name) error(fmt::format("expected a name, found {}", shown(current())));
  return next().text;
}
void TokenReader::expect(TokenKind kind, std::string_view what) {
  if (current().kind != kind) error(fmt::format("expected {}, found {}", what, shown(current())));
  next();
}

void TokenReader::error_unexpected() const { error(fmt::format("unexpected {}", shown(current()))); }

}  // namespace pq::jinja
