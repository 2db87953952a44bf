#include "jinja/value.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "jinja/text.h"
#include "text/unicode.h"

namespace pq::jinja {
namespace {

constexpr int max_nesting = 100;
constexpr std::size_t item_units = 32;  // about the bytes of an item

bool is_hashable(const Value& value) {
  if (const Sequence* sequence = value.sequence()) {
    return sequence->kind == SequenceKind::tuple &&
           std::all_of(sequence->items.begin(), sequence->items.end(), is_hashable);
  }
  return value.dict() == nullptr;
}

}  // namespace

Value::Value(std::string text) : data_(std::make_shared<const std::string>(std::move(text))) {}
Value::Value(Callable callable) : data_(std::make_shared<const Callable>(std::move(callable))) {}

Value Value::undefined(std::string why) {
  Value value;
  value.data_ = Undefined{std::make_shared<const std::string>(std::move(why))};
  return value;
}

Value Value::sequence(Run& run, SequenceKind kind, std::vector<Value> items) {
  run.spend(item_units * (1 + items.size()));
  auto sequence = std::make_shared<Sequence>();
  sequence->kind = kind;
  for (const Value& item : items) sequence->depth = std::max(sequence->depth, 1 + item.depth());
  if (sequence->depth > max_nesting) run.unsupported("a list is nested too deep");
  sequence->items = std::move(items);
  Value value;
  value.data_ = std::shared_ptr<const Sequence>(std::move(sequence));
  return value;
}

Value Value::dict(Run& run, std::vector<std::pair<Value, Value>> items) {
  run.spend(2 * item_units * (1 + items.size()));
  auto dict = std::make_shared<Dict>();
  dict->items.reserve(items.size());
  for (std::pair<Value, Value>& item : items) {
    const Value& key = item.first;
    if (!is_hashable(key)) run.fail(fmt::format("a {} cannot be the key of a dict", key.type_name()));
    dict->depth = std::max({dict->depth, 1 + key.depth(), 1 + item.second.depth()});
    const Value* old = dict->find(run, key);
    const auto same = std::find_if(dict->items.begin(), dict->items.end(),
                                   [&](const std::pair<Value, Value>& entry) { return &entry.second == old; });
    if (same != dict->items.end()) {
      same->second = std::move(item.second);
    } else {
      dict->items.push_back(std::move(item));
    }
  }
  if (dict->depth > max_nesting) run.unsupported("a dict is nested too deep");
  return Value(std::shared_ptr<const Dict>(std::move(dict)));
}

Value Value::from_json(Run& run, const Json& json) {
  switch (json.type()) {
    case Json::value_t::boolean:
      return json.get<bool>();
    case Json::value_t::number_integer:
      return json.get<std::int64_t>();
    case Json::value_t::number_unsigned:
      if (json.get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX))
        run.fail(fmt::format("the number {} does not fit into 64 bits", json.get<std::uint64_t>()));
      return json.get<std::int64_t>();
    case Json::value_t::number_float:
      return json.get<double>();
    case Json::value_t::string: {
      const auto& text = json.get_ref<const std::string&>();
      run.spend(text.size());
      if (find_invalid_utf8(text) != std::string_view::npos) run.fail("a message is not valid UTF-8");
      return text;
    }
    case Json::value_t::array: {
      const Run::Level level(run);
      std::vector<Value> items;
      for (const Json& item : json) items.push_back(from_json(run, item));
      return sequence(run, SequenceKind::list, std::move(items));
    }
    case Json::value_t::object: {
      const Run::Level level(run);
      std::vector<std::pair<Value, Value>> items;
      for (const auto& [key, item] : json.items()) items.emplace_back(from_json(run, Json(key)), from_json(run, item));
      return dict(run, std::move(items));
    }
    default:
      return {};
  }
}

const std::string* Value::string() const {
  const auto* text = std::get_if<std::shared_ptr<const std::string>>(&data_);
  return text == nullptr ? nullptr : text->get();
}
const Sequence* Value::sequence() const {
  const auto* sequence = std::get_if<std::shared_ptr<const Sequence>>(&data_);
  return sequence == nullptr ? nullptr : sequence->get();
}
const Dict* Value::dict() const {
  const auto* dict = std::get_if<std::shared_ptr<const Dict>>(&data_);
  return dict == nullptr ? nullptr : dict->get();
}
const Loop* Value::loop() const {
  const auto* loop = std::get_if<std::shared_ptr<const Loop>>(&data_);
  return loop == nullptr ? nullptr : loop->get();
}
const Callable* Value::callable() const {
  const auto* callable = std::get_if<std::shared_ptr<const Callable>>(&data_);
  return callable == nullptr ? nullptr : callable->get();
}
Namespace* Value::name_space() const {
  Namespace* const* space = std::get_if<Namespace*>(&data_);
  return space == nullptr ? nullptr : *space;
}

bool Value::truthy() const {
  if (is_undefined() || is_none()) return false;
  if (const auto number = as_float()) return *number != 0;
  if (const std::string* text = string()) return !text->empty();
  if (const Sequence* items = sequence()) return items->kind == SequenceKind::generator || !items->items.empty();
  if (const Dict* entries = dict()) return !entries->items.empty();
  return true;
}

std::optional<std::int64_t> Value::as_int() const {
  if (const bool* value = std::get_if<bool>(&data_)) return *value ? 1 : 0;
  if (const std::int64_t* value = std::get_if<std::int64_t>(&data_)) return *value;
  return std::nullopt;
}

std::optional<double> Value::as_float() const {
  if (const double* value = std::get_if<double>(&data_)) return *value;
  if (const auto value = as_int()) return static_cast<double>(*value);
  return std::nullopt;
}

std::string_view Value::type_name() const {
  static constexpr std::string_view names[] = {"undefined", "none", "bool",      "int",  "float",   "str",
                                               "list",      "dict", "namespace", "loop", "function"};
  static constexpr std::string_view sequences[] = {"list",      "tuple",       "range",     "generator",
                                                   "dict_keys", "dict_values", "dict_items"};
  if (const Sequence* items = sequence()) return sequences[static_cast<std::size_t>(items->kind)];
  return names[data_.index()];
}

int Value::depth() const {
  if (const Sequence* items = sequence()) return items->depth;
  if (const Dict* entries = dict()) return entries->depth;
  if (const Loop* state = loop()) return state->nesting;
  if (const Callable* function = callable()) return function->depth;
  return 0;
}

const Value* Dict::find(Run& run, const Value& key) const {
  run.spend(1 + items.size());
  for (const auto& [candidate, value] : items) {
    if (equal(run, candidate, key)) return &value;
  }
  return nullptr;
}

std::vector<std::optional<Value>> Arguments::bind(Run& run, std::string_view function,
                                                  std::initializer_list<std::string_view> parameters,
                                                  std::size_t required) const {
  if (positional.size() > parameters.size())
    run.fail(fmt::format("{}() takes at most {} arguments, not {}", function, parameters.size(), positional.size()));
  std::vector<std::optional<Value>> bound(parameters.size());
  std::copy(positional.begin(), positional.end(), bound.begin());
  for (const auto& [name, value] : named) {
    const auto at = std::find(parameters.begin(), parameters.end(), name);
    if (at == parameters.end()) run.fail(fmt::format("{}() has no argument '{}'", function, name));
    std::optional<Value>& place = bound[static_cast<std::size_t>(at - parameters.begin())];
    if (place) run.fail(fmt::format("{}() got '{}' twice", function, name));
    place = value;
  }
  for (std::size_t i = 0; i < required; ++i) {
    if (!bound[i]) run.fail(fmt::format("{}() lacks its argument '{}'", function, parameters.begin()[i]));
  }
  return bound;
}

bool equal(Run& run, const Value& a, const Value& b) {
  run.spend(1);
  if (a.is_number() && b.is_number()) {
    const auto x = a.as_int();
    const auto y = b.as_int();
    if (x && y) return *x == *y;
    const auto wide = [](const Value& v) {
      const auto whole = v.as_int();
      return whole ? static_cast<long double>(*whole) : static_cast<long double>(*v.as_float());
    };
    return wide(a) == wide(b);
  }
  if (a.string() != nullptr && b.string() != nullptr) {
    run.spend(std::min(a.string()->size(), b.string()->size()) / 16);
    return *a.string() == *b.string();
  }
  if (a.sequence() != nullptr && b.sequence() != nullptr) {
    const Sequence& x = *a.sequence();
    const Sequence& y = *b.sequence();
    if (&x == &y) return true;
    if (x.kind != y.kind || x.kind == SequenceKind::generator || x.items.size() != y.items.size()) return false;
    for (std::size_t i = 0; i < x.items.size(); ++i) {
      if (!equal(run, x.items[i], y.items[i])) return false;
    }
    return true;
  }
  if (a.dict() != nullptr && b.dict() != nullptr) {
    if (a.dict()->items.size() != b.dict()->items.size()) return false;
    for (const auto& [key, value] : a.dict()->items) {
      const Value* other = b.dict()->find(run, key);
      if (other == nullptr || !equal(run, value, *other)) return false;
    }
    return true;
  }
  if (a.is_none() || a.is_undefined()) return a.is_none() == b.is_none() && a.is_undefined() == b.is_undefined();
  if (a.name_space() != nullptr) return a.name_space() == b.name_space();
  if (a.loop() != nullptr) return a.loop() == b.loop();
  return a.callable() != nullptr && a.callable() == b.callable();
}

int compare(Run& run, const Value& a, const Value& b) {
  run.spend(1);
  if (a.is_undefined()) run.fail(a.why_undefined());
  if (b.is_undefined()) run.fail(b.why_undefined());
  if (a.is_number() && b.is_number()) {
    if (equal(run, a, b)) return 0;
    const auto x = a.as_int();
    const auto y = b.as_int();
    if (x && y) return *x < *y ? -1 : 1;
    return *a.as_float() < *b.as_float() ? -1 : 1;
  }
  if (a.string() != nullptr && b.string() != nullptr) {
    run.spend(std::min(a.string()->size(), b.string()->size()) / 16);
    return a.string()->compare(*b.string());  // the order of UTF-8 bytes is that of code points
  }
  if (a.sequence() != nullptr && b.sequence() != nullptr && a.sequence()->kind == b.sequence()->kind) {
    const auto& x = a.sequence()->items;
    const auto& y = b.sequence()->items;
    for (std::size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
      if (!equal(run, x[i], y[i])) return compare(run, x[i], y[i]);
    }
    return x.size() == y.size() ? 0 : x.size() < y.size() ? -1 : 1;
  }
  run.fail(fmt::format("a {} and a {} have no order", a.type_name(), b.type_name()));
}

std::vector<Value> iterate(Run& run, const Value& value) {
  if (const Sequence* sequence = value.sequence()) {
    run.spend(item_units * sequence->items.size());
    if (sequence->kind != SequenceKind::generator) return sequence->items;
    return std::exchange(sequence->exhausted, true) ? std::vector<Value>{} : sequence->items;
  }
  std::vector<Value> items;
  if (const Dict* dict = value.dict()) {
    run.spend(item_units * dict->items.size());
    for (const auto& entry : dict->items) items.push_back(entry.first);
  } else if (const std::string* text = value.string()) {
    run.spend(2 * item_units * text->size());
    for (std::string_view rest = *text; !rest.empty();) {
      const std::size_t size = utf8_length(rest[0]);
      items.emplace_back(std::string(rest.substr(0, size)));
      rest.remove_prefix(size);
    }
  } else if (!value.is_undefined()) {
    run.fail(fmt::format("a {} cannot be iterated", value.type_name()));
  }
  return items;
}

std::int64_t length(Run& run, const Value& value) {
  if (const std::string* text = value.string()) return static_cast<std::int64_t>(count_characters(run, *text));
  if (const Dict* dict = value.dict()) return static_cast<std::int64_t>(dict->items.size());
  if (const Sequence* sequence = value.sequence(); sequence != nullptr && sequence->kind != SequenceKind::generator)
    return static_cast<std::int64_t>(sequence->items.size());
  if (value.is_undefined()) return 0;
  if (const Loop* loop = value.loop()) return static_cast<std::int64_t>(loop->items.size());
  run.fail(fmt::format("a {} has no length", value.type_name()));
}

bool contains(Run& run, const Value& container, const Value& item) {
  if (const std::string* text = container.string()) {
    if (item.string() == nullptr) run.fail(fmt::format("'in' a str takes a str, not a {}", item.type_name()));
    spend_search(run, *text, *item.string());
    return text->find(*item.string()) != std::string::npos;
  }
  if (const Dict* dict = container.dict()) return dict->find(run, item) != nullptr;
  const std::vector<Value> items = iterate(run, container);
  return std::any_of(items.begin(), items.end(), [&](const Value& candidate) { return equal(run, candidate, item); });
}

}  // namespace pq::jinja
