#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "jinja/syntax.h"
#include "jinja/token_reader.h"

namespace pq::jinja {

/// The expressions of a template, and the tokens that the statements' parser reads around them.
/// Source: jinja2/parser.py.
class ExpressionParser : public TokenReader {
 public:
  using TokenReader::TokenReader;

  ExpressionPtr expression(bool with_conditional = true);
  /// One expression, or several with commas between them as a tuple.
  ExpressionPtr expression_or_tuple(bool with_conditional);
  /// The filters behind `input`; the first without its '|' in {% filter name %}.
  ExpressionPtr filters(ExpressionPtr input, bool first_without_sign = false);

  /// In an {% if %}, as in the parts of a conditional expression, a filter or test that is not known is an error only
  /// where it is reached: templates ask `is defined` first. Elsewhere it is one at once.
  bool conditional = false;

 private:
  struct Unknown {
    std::string what;
    int line = 0;
  };
  void note_unknown(std::string what);

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

  std::vector<Unknown> unknown_;  // filters and tests of the outermost expression that is being read
  int open_ = 0;                  // expressions around the current token
};

}  // namespace pq::jinja
