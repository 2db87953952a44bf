#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "jinja/lexer.h"

namespace pq::jinja {

/// No template and no expression may be nested deeper.
inline constexpr int max_depth = 150;

/// The tokens of a template, read one by one.
class TokenReader {
 public:
  TokenReader(std::vector<Token> tokens, std::string_view where) : tokens_(std::move(tokens)), where_(where) {}

  const Token& current() const { return tokens_[at_]; }
  /// The one after the current; the last one again at the end.
  const Token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  Token next() {
    const Token token = tokens_[at_];
    if (at_ + 1 < tokens_.size()) ++at_;
    return token;
  }
  bool is_sign(std::string_view text) const { return current().kind == TokenKind::sign && current().text == text; }
  bool is_name(std::string_view text) const { return current().kind == TokenKind::name && current().text == text; }
  bool take_sign(std::string_view text);
  bool take_name(std::string_view text);
  void expect_sign(std::string_view text);
  std::string expect_name();
  void expect(TokenKind kind, std::string_view what);
  /// FormatError and UnsupportedError that name the template and the line.
  [[noreturn]] void error(std::string_view what) const;
  [[noreturn]] void error_unexpected() const;
  [[noreturn]] void unsupported(std::string_view what) const { unsupported(what, current().line); }
  [[noreturn]] void unsupported(std::string_view what, int line) const;

  /// Counts one level of nesting while it lives.
  class Level {
   public:
    explicit Level(TokenReader& reader);
    ~Level() { --reader_.level_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    TokenReader& reader_;
  };

 private:
  std::vector<Token> tokens_;
  std::string where_;
  std::size_t at_ = 0;
  int level_ = 0;
};

}  // namespace pq::jinja
