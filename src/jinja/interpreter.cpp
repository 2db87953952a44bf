#include "jinja/interpreter.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>

#include "jinja/arithmetic.h"
#include "jinja/globals.h"
#include "jinja/members.h"
#include "jinja/output.h"

namespace pq::jinja {
namespace {

constexpr std::size_t max_output_bytes = std::size_t{16} << 20;

/// The variables of one scope. Names are those of the syntax tree, which outlives it.
struct Frame {
  const Frame* outer;
  std::vector<std::pair<std::string_view, Value>> variables;

  void set(std::string_view name, Value value) {
    for (auto& variable : variables) {
      if (variable.first == name) {
        variable.second = std::move(value);
        return;
      }
    }
    variables.emplace_back(name, std::move(value));
  }
};

class Interpreter {
 public:
  Interpreter(Run& run, const std::vector<std::pair<std::string, Value>>& variables, std::time_t now) : run_(run) {
    const auto add = [&](std::string_view name, std::function<Value(Run&, const Arguments&)> call) {
      globals_.set(name, Callable{std::string(name), std::move(call)});
    };
    add("range", range);
    add("dict", [](Run& r, const Arguments& a) { return Value::dict(r, named_items(r, "dict", a)); });
    add("namespace", [this](Run& r, const Arguments& a) { return make_namespace(r, a); });
    add("strftime_now", [now](Run& r, const Arguments& a) { return strftime_now(r, a, now); });
    add("raise_exception", [](Run& r, const Arguments& a) -> Value {
      std::string message = to_text(r, *a.bind(r, "raise_exception", {"message"}, 1)[0]);
      std::replace(message.begin(), message.end(), '\n', ' ');
      r.fail("the chat template refuses: " + message);
    });
    for (const std::string_view name : {"cycler", "joiner", "lipsum"}) {
      add(name,
          [name](Run& r, const Arguments&) -> Value { r.unsupported(fmt::format("{}() is not supported", name)); });
    }
    for (const auto& [name, value] : variables) globals_.set(name, value);
  }
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  std::string render(const Block& block) {
    std::string text;
    out_ = &text;
    root_.outer = &globals_;
    run(block, root_);
    return text;
  }

 private:
  enum class Flow { on, leave, skip };

  Value make_namespace(Run& run, const Arguments& arguments) {
    run.spend(256);
    Namespace& made = namespaces_.emplace_back();
    for (auto& [name, value] : named_items(run, "namespace", arguments)) {
      if (name.string() == nullptr || name.string()->starts_with('_'))
        run.fail("namespace() takes names without '_' in front");
      run.spend(64);
      made.attributes[*name.string()] = std::move(value);
    }
    return &made;
  }

  void emit(std::string_view text) {
    run_.spend(text.size());
    if (text.size() > max_output_bytes - std::min(out_->size(), max_output_bytes))
      run_.unsupported("the chat template makes more than 16 MiB of text");
    *out_ += text;
  }

  Flow run(const Block& block, Frame& frame) {
    const Run::Level level(run_);
    for (const Statement& statement : block) {
      run_.line = statement.line;
      run_.spend(1);
      if (const Flow flow = run(statement, frame); flow != Flow::on) return flow;
    }
    return Flow::on;
  }

  Flow run(const Statement& statement, Frame& frame) {
    switch (statement.kind) {
      case StatementKind::text:
        emit(statement.name);
        return Flow::on;
      case StatementKind::print:
        emit(to_text(run_, evaluate(*statement.value, frame)));
        return Flow::on;
      case StatementKind::branch:
        return run_branch(statement, frame);
      case StatementKind::loop:
        return run_loop(statement, frame);
      case StatementKind::set:
        assign(statement, evaluate(*statement.value, frame), frame);
        return Flow::on;
      case StatementKind::set_block:
      case StatementKind::filter:
        return run_capture(statement, frame);
      case StatementKind::macro:
        frame.set(statement.name, Callable{statement.name, [this, &statement](Run&, const Arguments& arguments) {
                                             return call_macro(statement, arguments);
                                           }});
        return Flow::on;
      case StatementKind::with:
      case StatementKind::scope: {
        Frame inner{&frame, {}};
        for (const auto& [name, value] : statement.parameters) inner.set(name, evaluate(*value, frame));
        return run(statement.body, inner);
      }
      case StatementKind::leave:
        return Flow::leave;
      case StatementKind::skip:
        return Flow::skip;
    }
    return Flow::on;
  }

  Flow run_branch(const Statement& statement, Frame& frame) {
    for (const auto& [condition, body] : statement.arms) {
      if (!condition || evaluate(*condition, frame).truthy()) return run(body, frame);
    }
    return Flow::on;
  }

  Flow run_loop(const Statement& statement, Frame& frame) {
    std::vector<Value> items = iterate(run_, evaluate(*statement.value, frame));
    if (statement.condition) {
      std::vector<Value> kept;
      for (Value& item : items) {
        Frame inner{&frame, {}};
        assign(statement, item, inner);
        if (evaluate(*statement.condition, inner).truthy()) kept.push_back(std::move(item));
      }
      items = std::move(kept);
    }
    if (items.empty()) {
      Frame inner{&frame, {}};
      return run(statement.otherwise, inner);
    }
    const auto loop = std::make_shared<Loop>();
    for (const Value& item : items) loop->nesting = std::max(loop->nesting, 1 + item.depth());
    loop->items = std::move(items);
    for (loop->index0 = 0; loop->index0 < loop->items.size(); ++loop->index0) {
      run_.line = statement.line;
      Frame inner{&frame, {}};
      inner.set("loop", Value(std::shared_ptr<const Loop>(loop)));
      assign(statement, loop->items[loop->index0], inner);
      if (run(statement.body, inner) == Flow::leave) break;
    }
    return Flow::on;
  }

  /// {% set x %} and {% filter f %}: the body's text through the filters.
  Flow run_capture(const Statement& statement, Frame& frame) {
    std::string text;
    Frame inner{&frame, {}};
    std::string* const outside = std::exchange(out_, &text);
    const Flow flow = run(statement.body, inner);
    out_ = outside;
    if (flow != Flow::on) return flow;
    inner.set("", std::move(text));
    const Value value = evaluate(*statement.value, inner);
    if (statement.kind == StatementKind::filter) {
      emit(to_text(run_, value));
    } else {
      assign(statement, value, frame);
    }
    return Flow::on;
  }

  Value call_macro(const Statement& macro, const Arguments& arguments) {
    const Run::Level level(run_);
    Frame inner{&root_, {}};
    if (arguments.positional.size() > macro.parameters.size())
      run_.fail(fmt::format("the macro '{}' takes {} arguments, not {}", macro.name, macro.parameters.size(),
                            arguments.positional.size()));
    std::vector<std::optional<Value>> given(macro.parameters.size());
    std::copy(arguments.positional.begin(), arguments.positional.end(), given.begin());
    for (const auto& [name, value] : arguments.named) {
      const auto at = std::find_if(macro.parameters.begin(), macro.parameters.end(),
                                   [&n = name](const auto& parameter) { return parameter.first == n; });
      if (at == macro.parameters.end()) run_.fail(fmt::format("the macro '{}' has no argument '{}'", macro.name, name));
      given[static_cast<std::size_t>(at - macro.parameters.begin())] = value;
    }
    for (std::size_t i = 0; i < given.size(); ++i) {
      const auto& [name, fallback] = macro.parameters[i];
      if (given[i]) {
        inner.set(name, *std::move(given[i]));
      } else if (fallback) {
        inner.set(name, evaluate(*fallback, inner));
      } else {
        inner.set(name, Value::undefined(fmt::format("parameter '{}' was not provided", name)));
      }
    }
    const int line = run_.line;
    std::string text;
    std::string* const outside = std::exchange(out_, &text);
    run(macro.body, inner);
    out_ = outside;
    run_.line = line;
    return text;
  }

  void assign(const Statement& statement, const Value& value, Frame& frame) {
    if (!statement.unpacks) {
      assign(statement.targets.front(), value, frame);
      return;
    }
    const std::vector<Value> parts = iterate(run_, value);
    if (parts.size() != statement.targets.size())
      run_.fail(fmt::format("{} values cannot be assigned to {} names", parts.size(), statement.targets.size()));
    for (std::size_t i = 0; i < parts.size(); ++i) assign(statement.targets[i], parts[i], frame);
  }

  void assign(const Target& target, const Value& value, Frame& frame) {
    run_.spend(16 + frame.variables.size());
    if (target.attribute.empty()) {
      frame.set(target.name, value);
      return;
    }
    Namespace* const space = look_up(target.name, frame).name_space();
    if (space == nullptr) run_.fail(fmt::format("'{}' is not a namespace", target.name));
    space->attributes[target.attribute] = value;
  }

  Value look_up(std::string_view name, const Frame& frame) {
    for (const Frame* at = &frame; at != nullptr; at = at->outer) {
      run_.spend(1 + at->variables.size());
      for (const auto& variable : at->variables) {
        if (variable.first == name) return variable.second;
      }
    }
    return Value::undefined(fmt::format("'{}' is undefined", name));
  }

  Value evaluate(const Expression& expression, const Frame& frame) {
    const Run::Level level(run_);
    run_.line = expression.line;
    run_.spend(1);
    const auto child = [&](std::size_t i) { return evaluate(*expression.children[i], frame); };
    switch (expression.kind) {
      case ExpressionKind::literal:
        return expression.literal;
      case ExpressionKind::name:
        return look_up(expression.text, frame);
      case ExpressionKind::list:
      case ExpressionKind::tuple:
      case ExpressionKind::dict:
        return collection(expression, frame);
      case ExpressionKind::attribute:
        return attribute(run_, child(0), expression.text);
      case ExpressionKind::item:
        return item(run_, child(0), child(1));
      case ExpressionKind::slice:
        return slice_of(expression, frame);
      case ExpressionKind::call:
        return call(expression, frame);
      case ExpressionKind::filter:
        if (expression.filter == nullptr)
          run_.unsupported(fmt::format("the filter '{}' is not supported", expression.text));
        return expression.filter(run_, child(0), arguments(expression, frame));
      case ExpressionKind::test:
        if (expression.test == nullptr)
          run_.unsupported(fmt::format("the test '{}' is not supported", expression.text));
        return expression.test(run_, child(0), arguments(expression, frame));
      case ExpressionKind::negate:
        return negated(run_, child(0));
      case ExpressionKind::plus:
        return arithmetic(run_, "+", Value(std::int64_t{0}), child(0));
      case ExpressionKind::logical_not:
        return !child(0).truthy();
      case ExpressionKind::logical_and:
      case ExpressionKind::logical_or: {
        Value left = child(0);
        return left.truthy() == (expression.kind == ExpressionKind::logical_and) ? child(1) : left;
      }
      case ExpressionKind::conditional:
        if (child(1).truthy()) return child(0);
        return expression.children[2] ? child(2) : Value::undefined("the inline if has no else");
      case ExpressionKind::binary:
        return binary(expression, frame);
      case ExpressionKind::concat:
        return concat(expression, frame);
      case ExpressionKind::compare:
        return comparison(expression, frame);
    }
    return {};
  }

  Value collection(const Expression& expression, const Frame& frame) {
    std::vector<Value> items;
    for (const ExpressionPtr& child : expression.children) items.push_back(evaluate(*child, frame));
    if (expression.kind == ExpressionKind::list) return Value::sequence(run_, SequenceKind::list, std::move(items));
    if (expression.kind == ExpressionKind::tuple) return Value::sequence(run_, SequenceKind::tuple, std::move(items));
    std::vector<std::pair<Value, Value>> pairs;
    for (std::size_t i = 0; i + 1 < items.size(); i += 2)
      pairs.emplace_back(std::move(items[i]), std::move(items[i + 1]));
    return Value::dict(run_, std::move(pairs));
  }

  Value slice_of(const Expression& expression, const Frame& frame) {
    Value parts[4];
    for (std::size_t i = 0; i < 4; ++i) {
      if (expression.children[i]) parts[i] = evaluate(*expression.children[i], frame);
    }
    return slice(run_, parts[0], parts[1], parts[2], parts[3]);
  }

  Arguments arguments(const Expression& expression, const Frame& frame) {
    Arguments made;
    for (std::size_t i = 1; i < expression.children.size(); ++i)
      made.positional.push_back(evaluate(*expression.children[i], frame));
    for (const auto& [name, value] : expression.named) made.named.emplace_back(name, evaluate(*value, frame));
    return made;
  }

  Value call(const Expression& expression, const Frame& frame) {
    const Value function = evaluate(*expression.children[0], frame);
    if (function.is_undefined()) run_.fail(function.why_undefined());
    if (function.callable() == nullptr) run_.fail(fmt::format("a {} cannot be called", function.type_name()));
    const Arguments given = arguments(expression, frame);
    run_.line = expression.line;
    return function.callable()->call(run_, given);
  }

  Value binary(const Expression& expression, const Frame& frame) {
    const Value left = evaluate(*expression.children[0], frame);
    const Value right = evaluate(*expression.children[1], frame);
    run_.line = expression.line;
    return arithmetic(run_, expression.text, left, right);
  }

  Value concat(const Expression& expression, const Frame& frame) {
    std::string text;
    for (const ExpressionPtr& child : expression.children) text += to_text(run_, evaluate(*child, frame));
    return text;
  }

  Value comparison(const Expression& expression, const Frame& frame) {
    Value left = evaluate(*expression.children[0], frame);
    for (std::size_t i = 0; i < expression.operators.size(); ++i) {
      Value right = evaluate(*expression.children[i + 1], frame);
      run_.line = expression.line;
      if (!holds(expression.operators[i], left, right)) return false;
      left = std::move(right);
    }
    return true;
  }

  bool holds(std::string_view sign, const Value& left, const Value& right) {
    if (sign == "==") return equal(run_, left, right);
    if (sign == "!=") return !equal(run_, left, right);
    if (sign == "in") return contains(run_, right, left);
    if (sign == "not in") return !contains(run_, right, left);
    const int order = compare(run_, left, right);
    if (sign == "<") return order < 0;
    if (sign == "<=") return order <= 0;
    return sign == ">" ? order > 0 : order >= 0;
  }

  Run& run_;
  std::deque<Namespace> namespaces_;  // outlives every value
  Frame globals_{nullptr, {}};
  Frame root_{nullptr, {}};
  std::string* out_ = nullptr;
};

}  // namespace

std::string render(const Block& block, Run& run, const std::vector<std::pair<std::string, Value>>& variables,
                   std::time_t now) {
  return Interpreter(run, variables, now).render(block);
}

}  // namespace pq::jinja
