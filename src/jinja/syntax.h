#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "jinja/filters.h"
#include "jinja/tests.h"
#include "jinja/value.h"

namespace pq::jinja {

enum class ExpressionKind {
  literal,
  name,
  list,       ///< children
  tuple,      ///< children
  dict,       ///< children: key, value, key, value, ...
  attribute,  ///< children[0].text
  item,       ///< children[0][children[1]]
  slice,      ///< children[0][children[1]:children[2]:children[3]], nullptr for what is left out
  call,       ///< children[0](children[1], ..., named)
  filter,     ///< children[0] | text(children[1], ..., named)
  test,       ///< children[0] is text(children[1], ..., named)
  negate,     ///< -children[0]
  plus,       ///< +children[0]
  logical_not,
  logical_and,
  logical_or,
  conditional,  ///< children[0] if children[1] else children[2] (nullptr: undefined)
  binary,       ///< children[0] text children[1]: + - * / // % **
  concat,       ///< all children as text, joined: ~
  compare,      ///< children[0] operators[0] children[1] operators[1] ...
};

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

struct Expression {
  ExpressionKind kind = ExpressionKind::literal;
  int line = 1;
  int depth = 1;  ///< of the tree
  std::string text;
  Value literal;
  Filter filter = nullptr;
  Test test = nullptr;
  std::vector<ExpressionPtr> children;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  std::vector<std::string> operators;
};

enum class StatementKind {
  text,       ///< name is the text
  print,      ///< value
  branch,     ///< arms: the first whose condition holds (nullptr: always)
  loop,       ///< for targets in value if condition: body; otherwise
  set,        ///< targets = value
  set_block,  ///< targets = body, through value's filters
  macro,      ///< name(parameters): body
  filter,     ///< body, through value's filters
  with,       ///< parameters as variables of body
  scope,      ///< body
  leave,      ///< break
  skip,       ///< continue
};

struct Statement;
using Block = std::vector<Statement>;

/// A variable, or an attribute of a namespace.
struct Target {
  std::string name;
  std::string attribute;  ///< empty: the variable itself
};

struct Statement {
  StatementKind kind = StatementKind::text;
  int line = 1;
  std::string name;
  ExpressionPtr value;
  ExpressionPtr condition;
  std::vector<Target> targets;
  bool unpacks = false;                                           ///< the value is taken apart, one item a target
  std::vector<std::pair<std::string, ExpressionPtr>> parameters;  ///< with their defaults (nullptr: none)
  std::vector<std::pair<ExpressionPtr, Block>> arms;
  Block body;
  Block otherwise;
};

}  // namespace pq::jinja
