#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/json.h"
#include "jinja/run.h"

namespace pq::jinja {

class Value;

enum class SequenceKind { list, tuple, range, generator, dict_keys, dict_values, dict_items };

/// Jinja's sandbox for chat templates forbids changing lists and dicts, so they are immutable once made.
struct Sequence {
  SequenceKind kind = SequenceKind::list;
  std::vector<Value> items;
  int depth = 1;                   ///< of nesting
  mutable bool exhausted = false;  ///< a generator gives its items once
};

struct Dict {
  std::vector<std::pair<Value, Value>> items;  ///< in order of insertion; keys are hashable
  int depth = 1;

  /// nullptr without that key.
  const Value* find(Run& run, const Value& key) const;
};

/// namespace(...): the one thing that a template can change. Owned by the rendering, so that one that holds itself
/// leaks nothing.
struct Namespace {
  std::map<std::string, Value, std::less<>> attributes;
};

/// The variable `loop`.
struct Loop {
  std::vector<Value> items;
  std::size_t index0 = 0;
  int nesting = 1;  ///< of its items, plus one
};

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;

  /// One entry a parameter. Throws InputError for an argument too many, one that no parameter has the name of, and
  /// fewer than `required`. `function` is for the message.
  std::vector<std::optional<Value>> bind(Run& run, std::string_view function,
                                         std::initializer_list<std::string_view> parameters,
                                         std::size_t required) const;
};

struct Callable {
  std::string name;
  std::function<Value(Run& run, const Arguments& arguments)> call;
  int depth = 0;  ///< of nesting of the value that a method is bound to
};

struct Undefined {
  std::shared_ptr<const std::string> why;  ///< "'x' is undefined"
};
struct None {};

/// A value of a template, with Python's meaning. Cheap to copy.
class Value {
 public:
  Value() : data_(None{}) {}
  Value(bool value) : data_(value) {}                                  // NOLINT(google-explicit-constructor)
  Value(std::int64_t value) : data_(value) {}                          // NOLINT(google-explicit-constructor)
  Value(double value) : data_(value) {}                                // NOLINT(google-explicit-constructor)
  Value(std::string text);                                             // NOLINT(google-explicit-constructor)
  Value(std::shared_ptr<const Dict> dict) : data_(std::move(dict)) {}  // NOLINT(google-explicit-constructor)
  Value(Namespace* space) : data_(space) {}                            // NOLINT(google-explicit-constructor)
  Value(std::shared_ptr<const Loop> loop) : data_(std::move(loop)) {}  // NOLINT(google-explicit-constructor)
  Value(Callable callable);                                            // NOLINT(google-explicit-constructor)
  Value(const char*) = delete;
  static Value undefined(std::string why);
  /// Throws UnsupportedError when it is nested too deep, as do dict() and from_json().
  static Value sequence(Run& run, SequenceKind kind, std::vector<Value> items);
  /// The last of equal keys counts. Throws InputError for a key that Python cannot hash.
  static Value dict(Run& run, std::vector<std::pair<Value, Value>> items);
  /// Throws InputError for text that is not UTF-8 and for whole numbers beyond 64 bits.
  static Value from_json(Run& run, const Json& json);

  bool is_undefined() const { return std::holds_alternative<Undefined>(data_); }
  bool is_none() const { return std::holds_alternative<None>(data_); }
  bool is_bool() const { return std::holds_alternative<bool>(data_); }
  bool is_int() const { return std::holds_alternative<std::int64_t>(data_); }
  bool is_float() const { return std::holds_alternative<double>(data_); }
  bool is_number() const { return is_bool() || is_int() || is_float(); }
  /// nullptr when it is something else.
  const std::string* string() const;
  const Sequence* sequence() const;
  const Dict* dict() const;
  const Loop* loop() const;
  const Callable* callable() const;
  Namespace* name_space() const;
  /// Why it is undefined.
  const std::string& why_undefined() const { return *std::get<Undefined>(data_).why; }

  /// Python's bool(x).
  bool truthy() const;
  /// A bool or int as a number; nullopt for anything else.
  std::optional<std::int64_t> as_int() const;
  /// Any number.
  std::optional<double> as_float() const;
  /// "str", "int", "dict", ... for messages.
  std::string_view type_name() const;
  int depth() const;

 private:
  std::variant<Undefined, None, bool, std::int64_t, double, std::shared_ptr<const std::string>,
               std::shared_ptr<const Sequence>, std::shared_ptr<const Dict>, Namespace*, std::shared_ptr<const Loop>,
               std::shared_ptr<const Callable>>
      data_;
};

bool equal(Run& run, const Value& a, const Value& b);
/// Negative, zero or positive. Throws InputError for types that have no order.
int compare(Run& run, const Value& a, const Value& b);

/// The items of a list, the keys of a dict, the characters of a string, nothing of an undefined value. Throws
/// InputError for what cannot be iterated.
std::vector<Value> iterate(Run& run, const Value& value);
/// Throws InputError for what has no length.
std::int64_t length(Run& run, const Value& value);
/// `item in container`.
bool contains(Run& run, const Value& container, const Value& item);

}  // namespace pq::jinja
