#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "jinja/lexer.h"
#include "jinja/syntax.h"

namespace pq::jinja {

/// The expressions of a template, and the tokens that the statements' parser reads around them.
/// Source: jinja2/parser.py.
class ExpressionParser {
 public:
  ExpressionParser(std::vector<Token> tokens, std::string_view where) : tokens_(std::move(tokens)), where_(where) {}

  const Token& current() const { return tokens_[at_]; }
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
  [[noreturn]] void error(std::string_view what) const;
  [[noreturn]] void unsupported(std::string_view what) const;

  ExpressionPtr expression(bool with_conditional = true);
  /// One expression, or several with commas between them as a tuple.
  ExpressionPtr expression_or_tuple(bool with_conditional);
  /// The filters behind `input`; the first without its '|' in {% filter name %}.
  ExpressionPtr filters(ExpressionPtr input, bool first_without_sign = false);

  /// Counts one level of nesting while it lives.
  class Level {
   public:
    explicit Level(ExpressionParser& parser);
    ~Level() { --parser_.level_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    ExpressionParser& parser_;
  };

 private:
  ExpressionPtr make(ExpressionKind kind, std::string text = {}) const;
  /// Adds a child to a node, with its depth.
  void adopt(Expression& parent, ExpressionPtr child) const;
  ExpressionPtr node(ExpressionKind kind, std::string text, ExpressionPtr first, ExpressionPtr second = nullptr) const;

  ExpressionPtr parse_or();
  ExpressionPtr parse_and();
  ExpressionPtr parse_not();
  ExpressionPtr parse_compare();
  ExpressionPtr parse_sum();
  ExpressionPtr parse_concat();
  ExpressionPtr parse_product();
  ExpressionPtr parse_power();
  ExpressionPtr parse_unary(bool with_filter);
  ExpressionPtr parse_primary();
  ExpressionPtr parse_number();
  ExpressionPtr parse_list();
  ExpressionPtr parse_dict();
  ExpressionPtr parse_postfix(ExpressionPtr operand);
  ExpressionPtr parse_subscript(ExpressionPtr operand);
  ExpressionPtr parse_filters_and_tests(ExpressionPtr operand);
  ExpressionPtr parse_test(ExpressionPtr operand);
  void parse_arguments(Expression& call);

  std::vector<Token> tokens_;
  std::string where_;
  std::size_t at_ = 0;
  int level_ = 0;
};

}  // namespace pq::jinja
