#include "jinja/parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <utility>

#include "base/error.h"
#include "jinja/expression_parser.h"

namespace pq::jinja {
namespace {

/// The statements of a template. Source: jinja2/parser.py.
class Parser {
 public:
  Parser(std::string_view text, std::string_view where) : in_(tokenize_template(text, where), where) {}

  Block run() {
    Block block = statements({});
    if (in_.current().kind != TokenKind::end) in_.error("the template does not end here");
    return block;
  }

 private:
  /// Statements up to a tag with one of the `ends`, whose "{%" is taken and name is current; up to the end of the
  /// template without any.
  Block statements(std::initializer_list<std::string_view> ends) {
    const ExpressionParser::Level level(in_);
    Block block;
    for (;;) {
      switch (in_.current().kind) {
        case TokenKind::end:
          if (ends.size() > 0) in_.error(fmt::format("'{}' is missing", *(ends.end() - 1)));
          return block;
        case TokenKind::text: {
          Statement statement = start(StatementKind::text);
          statement.name = in_.next().text;
          block.push_back(std::move(statement));
          break;
        }
        case TokenKind::print_begin: {
          in_.next();
          Statement statement = start(StatementKind::print);
          statement.value = in_.expression_or_tuple(true);
          in_.expect(TokenKind::print_end, "'}}'");
          block.push_back(std::move(statement));
          break;
        }
        default: {
          in_.expect(TokenKind::statement_begin, "'{%'");
          const Token& word = in_.current();
          if (word.kind != TokenKind::name) in_.error("a tag does not start with a name");
          if (std::find(ends.begin(), ends.end(), word.text) != ends.end()) return block;
          block.push_back(statement());
        }
      }
    }
  }

  /// A body that ends in {% `end` %}.
  Block body(std::string_view end) {
    Block block = statements({end});
    in_.next();
    end_tag();
    return block;
  }

  /// The same where variables are the body's own.
  Block inner_body(std::string_view end) {
    const Conditional unconditional(in_, false);
    ++inner_;
    Block block = body(end);
    --inner_;
    return block;
  }

  /// Whether what is read while it lives is reached on a condition. An inner body starts anew, as in Jinja.
  class Conditional {
   public:
    Conditional(ExpressionParser& in, bool value) : in_(in), before_(std::exchange(in.conditional, value)) {}
    ~Conditional() { in_.conditional = before_; }
    Conditional(const Conditional&) = delete;
    Conditional& operator=(const Conditional&) = delete;

   private:
    ExpressionParser& in_;
    bool before_;
  };

  Statement start(StatementKind kind) const {
    Statement statement;
    statement.kind = kind;
    statement.line = in_.current().line;
    return statement;
  }

  void end_tag() { in_.expect(TokenKind::statement_end, "'%}'"); }

  Statement statement() {
    Statement made = start(StatementKind::scope);
    const std::string word = in_.next().text;
    if (word == "if") {
      parse_if(made);
    } else if (word == "for") {
      parse_for(made);
    } else if (word == "set") {
      parse_set(made);
    } else if (word == "macro") {
      parse_macro(made);
    } else if (word == "with") {
      parse_with(made);
    } else if (word == "filter") {
      made.kind = StatementKind::filter;
      const Conditional unconditional(in_, false);
      made.value = in_.filters(placeholder(), true);
      end_tag();
      made.body = inner_body("endfilter");
    } else if (word == "generation") {
      end_tag();
      made.body = inner_body("endgeneration");
    } else if (word == "break" || word == "continue") {
      if (loops_ == 0) in_.error(fmt::format("'{}' stands outside of a loop", word));
      made.kind = word == "break" ? StatementKind::leave : StatementKind::skip;
      end_tag();
    } else {
      for (const char* known :
           {"block", "extends", "include", "import", "from", "call", "autoescape", "do", "trans", "debug", "print"}) {
        if (word == known) in_.unsupported(fmt::format("the tag '{}' is not supported", word));
      }
      in_.error(fmt::format("unknown tag '{}'", word.substr(0, 40)));
    }
    return made;
  }

  void parse_if(Statement& made) {
    made.kind = StatementKind::branch;
    const Conditional conditional(in_, true);
    for (;;) {
      ExpressionPtr condition = in_.expression_or_tuple(false);
      end_tag();
      Block arm = statements({"elif", "else", "endif"});
      made.arms.emplace_back(std::move(condition), std::move(arm));
      const std::string word = in_.next().text;
      if (word == "elif") continue;
      end_tag();
      if (word == "else") made.arms.emplace_back(nullptr, body("endif"));
      return;
    }
  }

  void parse_for(Statement& made) {
    made.kind = StatementKind::loop;
    parse_targets(made, false);
    if (!in_.take_name("in")) in_.error("'for' lacks its 'in'");
    made.value = in_.expression_or_tuple(false);
    const Conditional unconditional(in_, false);
    if (in_.take_name("if")) made.condition = in_.expression();
    if (in_.is_name("recursive")) in_.unsupported("a recursive loop is not supported");
    end_tag();
    ++loops_;
    made.body = statements({"else", "endfor"});
    --loops_;
    const bool has_else = in_.next().text == "else";
    end_tag();
    if (has_else) made.otherwise = body("endfor");
  }

  void parse_targets(Statement& made, bool with_attributes) {
    const bool bracket = in_.take_sign("(");
    do {
      if (!made.targets.empty() && (in_.is_name("in") || in_.is_sign("=") || in_.is_sign(")"))) break;
      if (in_.is_sign("(")) in_.unsupported("nested targets are not supported");
      Target target;
      target.name = in_.expect_name();
      for (const char* reserved : {"true", "false", "none", "True", "False", "None"}) {
        if (target.name == reserved) in_.error(fmt::format("'{}' cannot be assigned to", target.name));
      }
      if (with_attributes && in_.take_sign(".")) target.attribute = in_.expect_name();
      if (target.attribute.starts_with('_')) in_.error("a namespace takes no attribute that starts with '_'");
      made.targets.push_back(std::move(target));
      if (in_.is_sign(",")) made.unpacks = true;
    } while (in_.take_sign(","));
    if (bracket) in_.expect_sign(")");
  }

  void parse_set(Statement& made) {
    parse_targets(made, true);
    if (in_.take_sign("=")) {
      made.kind = StatementKind::set;
      made.value = in_.expression_or_tuple(true);
      end_tag();
      return;
    }
    if (made.unpacks) in_.error("'set' lacks its '='");
    made.kind = StatementKind::set_block;
    const Conditional unconditional(in_, false);
    made.value = in_.filters(placeholder());
    end_tag();
    made.body = inner_body("endset");
  }

  void parse_macro(Statement& made) {
    made.kind = StatementKind::macro;
    if (inner_ > 0 || loops_ > 0) in_.unsupported("a macro inside of a macro, loop or block is not supported");
    made.name = in_.expect_name();
    in_.expect_sign("(");
    while (!in_.is_sign(")")) {
      if (!made.parameters.empty()) in_.expect_sign(",");
      std::string name = in_.expect_name();
      ExpressionPtr fallback;
      if (in_.take_sign("=")) fallback = in_.expression();
      if (!fallback && !made.parameters.empty() && made.parameters.back().second)
        in_.error("a parameter without a default stands behind one with a default");
      made.parameters.emplace_back(std::move(name), std::move(fallback));
    }
    in_.expect_sign(")");
    end_tag();
    made.body = inner_body("endmacro");
  }

  void parse_with(Statement& made) {
    made.kind = StatementKind::with;
    while (in_.current().kind == TokenKind::name) {
      std::string name = in_.next().text;
      in_.expect_sign("=");
      made.parameters.emplace_back(std::move(name), in_.expression());
      if (!in_.take_sign(",")) break;
    }
    end_tag();
    made.body = inner_body("endwith");
  }

  /// Stands for the text that a block made.
  ExpressionPtr placeholder() const {
    auto made = std::make_unique<Expression>();
    made->kind = ExpressionKind::name;
    made->line = in_.current().line;
    return made;
  }

  ExpressionParser in_;
  int loops_ = 0;  // around the current statement
  int inner_ = 0;  // macros and scopes around it
};

}  // namespace

Block parse_template(std::string_view text, std::string_view where) { return Parser(text, where).run(); }

}  // namespace pq::jinja
