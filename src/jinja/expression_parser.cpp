#include "jinja/expression_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

namespace pq::jinja {
ExpressionPtr ExpressionParser::make(ExpressionKind kind, std::string text) const {
  auto made = std::make_unique<Expression>();
  made->kind = kind;
  made->line = current().line;
  made->text = std::move(text);
  return made;
}

void ExpressionParser::adopt(Expression& parent, ExpressionPtr child) const {
  if (child) parent.depth = std::max(parent.depth, child->depth + 1);
  parent.children.push_back(std::move(child));
  if (parent.depth > max_depth) unsupported("an expression is nested too deep");
}

ExpressionPtr ExpressionParser::node(ExpressionKind kind, std::string text, ExpressionPtr first,
                                     ExpressionPtr second) const {
  ExpressionPtr made = make(kind, std::move(text));
  adopt(*made, std::move(first));
  if (second) adopt(*made, std::move(second));
  return made;
}

void ExpressionParser::note_unknown(std::string what) {
  if (conditional) return;
  if (open_ == 0) unsupported(what);
  unknown_.push_back({std::move(what), current().line});
}

ExpressionPtr ExpressionParser::expression(bool with_conditional) {
  const Level level(*this);
  const std::size_t unknown_before = unknown_.size();
  ++open_;
  ExpressionPtr left = parse_or();
  while (with_conditional && take_name("if")) {
    ExpressionPtr made = node(ExpressionKind::conditional, {}, std::move(left), parse_or());
    ExpressionPtr otherwise;
    if (take_name("else")) otherwise = expression();
    adopt(*made, std::move(otherwise));
    left = std::move(made);
    unknown_.resize(unknown_before);
  }
  if (--open_ == 0 && !unknown_.empty()) unsupported(unknown_.front().what, unknown_.front().line);
  return left;
}

ExpressionPtr ExpressionParser::expression_or_tuple(bool with_conditional) {
  ExpressionPtr first = expression(with_conditional);
  if (!is_sign(",")) return first;
  ExpressionPtr tuple = node(ExpressionKind::tuple, {}, std::move(first));
  while (take_sign(",")) {
    const TokenKind kind = current().kind;
    if (is_sign(")") || kind == TokenKind::print_end || kind == TokenKind::statement_end) break;
    adopt(*tuple, expression(with_conditional));
  }
  return tuple;
}

ExpressionPtr ExpressionParser::parse_or() {
  ExpressionPtr left = parse_and();
  while (take_name("or")) left = node(ExpressionKind::logical_or, {}, std::move(left), parse_and());
  return left;
}

ExpressionPtr ExpressionParser::parse_and() {
  ExpressionPtr left = parse_not();
  while (take_name("and")) left = node(ExpressionKind::logical_and, {}, std::move(left), parse_not());
  return left;
}

ExpressionPtr ExpressionParser::parse_not() {
  if (!take_name("not")) return parse_compare();
  const Level level(*this);
  return node(ExpressionKind::logical_not, {}, parse_not());
}

ExpressionPtr ExpressionParser::parse_compare() {
  static constexpr std::string_view signs[] = {"==", "!=", "<", "<=", ">", ">="};
  ExpressionPtr first = parse_sum();
  ExpressionPtr made;
  for (;;) {
    std::string sign;
    const bool is_not_in = is_name("not") && ahead().kind == TokenKind::name && ahead().text == "in";
    if (current().kind == TokenKind::sign &&
        std::find(std::begin(signs), std::end(signs), current().text) != std::end(signs)) {
      sign = next().text;
    } else if (take_name("in")) {
      sign = "in";
    } else if (is_not_in) {
      next();
      next();
      sign = "not in";
    } else {
      break;
    }
    if (!made) made = node(ExpressionKind::compare, {}, std::move(first));
    adopt(*made, parse_sum());
    made->operators.push_back(std::move(sign));
  }
  return made ? std::move(made) : std::move(first);
}

ExpressionPtr ExpressionParser::parse_sum() {
  ExpressionPtr left = parse_concat();
  while (is_sign("+") || is_sign("-")) {
    std::string sign = next().text;
    left = node(ExpressionKind::binary, std::move(sign), std::move(left), parse_concat());
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_concat() {
  ExpressionPtr first = parse_product();
  if (!is_sign("~")) return first;
  ExpressionPtr made = node(ExpressionKind::concat, {}, std::move(first));
  while (take_sign("~")) adopt(*made, parse_product());
  return made;
}

ExpressionPtr ExpressionParser::parse_product() {
  ExpressionPtr left = parse_power();
  while (is_sign("*") || is_sign("/") || is_sign("//") || is_sign("%")) {
    std::string sign = next().text;
    left = node(ExpressionKind::binary, std::move(sign), std::move(left), parse_power());
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_power() {
  ExpressionPtr left = parse_unary(true);
  while (take_sign("**")) left = node(ExpressionKind::binary, "**", std::move(left), parse_unary(true));
  return left;
}

ExpressionPtr ExpressionParser::parse_unary(bool with_filter) {
  const Level level(*this);
  ExpressionPtr operand;
  if (take_sign("-")) {
    operand = node(ExpressionKind::negate, {}, parse_unary(false));
  } else if (take_sign("+")) {
    operand = node(ExpressionKind::plus, {}, parse_unary(false));
  } else {
    operand = parse_primary();
  }
  operand = parse_postfix(std::move(operand));
  return with_filter ? parse_filters_and_tests(std::move(operand)) : std::move(operand);
}

ExpressionPtr ExpressionParser::parse_primary() {
  switch (current().kind) {
    case TokenKind::name: {
      const std::string& text = current().text;
      ExpressionPtr made = make(ExpressionKind::literal);
      if (text == "true" || text == "True") {
        made->literal = true;
      } else if (text == "false" || text == "False") {
        made->literal = false;
      } else if (text != "none" && text != "None") {
        made->kind = ExpressionKind::name;
        made->text = text;
      }
      next();
      return made;
    }
    case TokenKind::string: {
      ExpressionPtr made = make(ExpressionKind::literal);
      std::string text;
      while (current().kind == TokenKind::string) text += next().text;
      made->literal = std::move(text);
      return made;
    }
    case TokenKind::integer:
    case TokenKind::real:
      return parse_number();
    default:
      break;
  }
  if (take_sign("(")) {
    ExpressionPtr made;
    if (is_sign(")")) {
      made = make(ExpressionKind::tuple);
    } else {
      made = expression_or_tuple(true);
    }
    expect_sign(")");
    return made;
  }
  if (is_sign("[")) return parse_list();
  if (is_sign("{")) return parse_dict();
  error_unexpected();
}

ExpressionPtr ExpressionParser::parse_number() {
  ExpressionPtr made = make(ExpressionKind::literal);
  const Token token = next();
  const char* const begin = token.text.data();
  const char* const end = begin + token.text.size();
  std::from_chars_result result{};
  if (token.kind == TokenKind::integer) {
    std::int64_t value = 0;
    result = std::from_chars(begin, end, value);
    made->literal = value;
  } else {
    double value = 0;
    result = std::from_chars(begin, end, value);
    made->literal = value;
  }
  if (result.ec != std::errc{} || result.ptr != end)
    unsupported(fmt::format("the number {} is out of range", token.text.substr(0, 40)));
  return made;
}

ExpressionPtr ExpressionParser::parse_list() {
  ExpressionPtr made = make(ExpressionKind::list);
  expect_sign("[");
  while (!is_sign("]")) {
    if (!made->children.empty()) expect_sign(",");
    if (is_sign("]")) break;
    adopt(*made, expression());
  }
  expect_sign("]");
  return made;
}

ExpressionPtr ExpressionParser::parse_dict() {
  ExpressionPtr made = make(ExpressionKind::dict);
  expect_sign("{");
  while (!is_sign("}")) {
    if (!made->children.empty()) expect_sign(",");
    if (is_sign("}")) break;
    adopt(*made, expression());
    expect_sign(":");
    adopt(*made, expression());
  }
  expect_sign("}");
  return made;
}

ExpressionPtr ExpressionParser::parse_postfix(ExpressionPtr operand) {
  for (;;) {
    if (is_sign(".") || is_sign("[")) {
      operand = parse_subscript(std::move(operand));
    } else if (is_sign("(")) {
      operand = node(ExpressionKind::call, {}, std::move(operand));
      parse_arguments(*operand);
    } else {
      return operand;
    }
  }
}

ExpressionPtr ExpressionParser::parse_subscript(ExpressionPtr operand) {
  if (take_sign(".")) {
    if (current().kind == TokenKind::integer) return node(ExpressionKind::item, {}, std::move(operand), parse_number());
    ExpressionPtr made = node(ExpressionKind::attribute, {}, std::move(operand));
    made->text = expect_name();
    return made;
  }
  expect_sign("[");
  ExpressionPtr parts[3];
  std::size_t count = 0;
  bool is_slice = false;
  for (;;) {
    if (!is_sign(":") && !is_sign("]")) parts[count] = expression();
    if (!take_sign(":")) break;
    is_slice = true;
    if (++count == 3) error("a slice has at most three parts");
  }
  if (is_sign(",")) unsupported("a subscript with commas is not supported");
  expect_sign("]");
  if (!is_slice) {
    if (!parts[0]) error("a subscript is empty");
    return node(ExpressionKind::item, {}, std::move(operand), std::move(parts[0]));
  }
  ExpressionPtr made = node(ExpressionKind::slice, {}, std::move(operand));
  for (ExpressionPtr& part : parts) adopt(*made, std::move(part));
  return made;
}

void ExpressionParser::parse_arguments(Expression& call) {
  expect_sign("(");
  bool first = true;
  while (!is_sign(")")) {
    if (!std::exchange(first, false)) expect_sign(",");
    if (is_sign(")")) break;
    if (is_sign("*") || is_sign("**")) unsupported("arguments with * or ** are not supported");
    const bool is_named = current().kind == TokenKind::name && ahead().kind == TokenKind::sign && ahead().text == "=";
    if (is_named) {
      std::string name = next().text;
      next();
      ExpressionPtr value = expression();
      call.depth = std::max(call.depth, value->depth + 1);
      call.named.emplace_back(std::move(name), std::move(value));
    } else {
      if (!call.named.empty()) error("an argument without a name stands behind a named one");
      adopt(call, expression());
    }
  }
  expect_sign(")");
  if (call.depth > max_depth) unsupported("an expression is nested too deep");
}

ExpressionPtr ExpressionParser::parse_filters_and_tests(ExpressionPtr operand) {
  for (;;) {
    if (is_sign("|")) {
      operand = filters(std::move(operand));
    } else if (is_name("is")) {
      operand = parse_test(std::move(operand));
    } else if (is_sign("(")) {  // Jinja lets a call stand behind a filter or test
      operand = node(ExpressionKind::call, {}, std::move(operand));
      parse_arguments(*operand);
    } else {
      return operand;
    }
  }
}

ExpressionPtr ExpressionParser::filters(ExpressionPtr input, bool first_without_sign) {
  while (std::exchange(first_without_sign, false) || take_sign("|")) {
    ExpressionPtr made = make(ExpressionKind::filter, expect_name());
    while (take_sign(".")) made->text += fmt::format(".{}", expect_name());
    made->filter = find_filter(made->text);
    if (made->filter == nullptr) note_unknown(fmt::format("the filter '{}' is not supported", made->text));
    adopt(*made, std::move(input));
    if (is_sign("(")) parse_arguments(*made);
    input = std::move(made);
  }
  return input;
}

ExpressionPtr ExpressionParser::parse_test(ExpressionPtr operand) {
  next();  // is
  const bool negated = take_name("not");
  std::string name = expect_name();
  while (take_sign(".")) name += fmt::format(".{}", expect_name());
  ExpressionPtr made = node(ExpressionKind::test, std::move(name), std::move(operand));
  made->test = find_test(made->text);
  if (made->test == nullptr) note_unknown(fmt::format("the test '{}' is not supported", made->text));
  const TokenKind kind = current().kind;
  const bool takes_argument = kind == TokenKind::string || kind == TokenKind::integer || kind == TokenKind::real ||
                              is_sign("[") || is_sign("{") ||
                              (kind == TokenKind::name && !is_name("else") && !is_name("or") && !is_name("and"));
  if (is_sign("(")) {
    parse_arguments(*made);
  } else if (takes_argument) {
    if (is_name("is")) error("tests cannot be chained with 'is'");
    adopt(*made, parse_postfix(parse_primary()));
  }
  return negated ? node(ExpressionKind::logical_not, {}, std::move(made)) : std::move(made);
}

}  // namespace pq::jinja
