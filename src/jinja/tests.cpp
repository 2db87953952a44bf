#include "jinja/tests.h"

#include <fmt/format.h>

#include <algorithm>

#include "jinja/filters.h"
#include "jinja/letter_case.h"
#include "jinja/output.h"

namespace pq::jinja {
namespace {

bool defined(Run&, const Value& value, const Arguments&) { return !value.is_undefined(); }
bool undefined(Run&, const Value& value, const Arguments&) { return value.is_undefined(); }
bool none(Run&, const Value& value, const Arguments&) { return value.is_none(); }
bool string(Run&, const Value& value, const Arguments&) { return value.string() != nullptr; }
bool number(Run&, const Value& value, const Arguments&) { return value.is_number(); }
bool integer(Run&, const Value& value, const Arguments&) { return value.is_int(); }
bool real(Run&, const Value& value, const Arguments&) { return value.is_float(); }
bool boolean(Run&, const Value& value, const Arguments&) { return value.is_bool(); }
bool is_true(Run&, const Value& value, const Arguments&) { return value.is_bool() && value.truthy(); }
bool is_false(Run&, const Value& value, const Arguments&) { return value.is_bool() && !value.truthy(); }
bool mapping(Run&, const Value& value, const Arguments&) { return value.dict() != nullptr; }
bool callable(Run&, const Value& value, const Arguments&) { return value.callable() != nullptr; }
bool iterable(Run&, const Value& value, const Arguments&) {
  return value.string() != nullptr || value.sequence() != nullptr || value.dict() != nullptr || value.is_undefined();
}
bool sequence(Run&, const Value& value, const Arguments&) {
  const Sequence* items = value.sequence();
  return value.string() != nullptr || value.dict() != nullptr || value.is_undefined() ||
         (items != nullptr && items->kind <= SequenceKind::range);
}

std::int64_t remainder(Run& run, const Value& value, std::int64_t divisor) {
  const auto whole = value.as_int();
  if (!whole) run.fail(fmt::format("a {} cannot be divided", value.type_name()));
  if (divisor == 0) run.fail("division by zero");
  return divisor == -1 ? 0 : *whole % divisor;
}
bool even(Run& run, const Value& value, const Arguments&) { return remainder(run, value, 2) == 0; }
bool odd(Run& run, const Value& value, const Arguments&) { return remainder(run, value, 2) != 0; }
bool divisible_by(Run& run, const Value& value, const Arguments& arguments) {
  const auto bound = arguments.bind(run, "divisibleby", {"num"}, 1);
  const auto divisor = bound[0]->as_int();
  if (!divisor) run.fail("divisibleby() takes an int");
  return remainder(run, value, *divisor) == 0;
}

bool lower_case(Run& run, const Value& value, const Arguments&) {
  const std::string text = to_text(run, value);
  return text == lower(run, text) && text != upper(run, text);
}
bool upper_case(Run& run, const Value& value, const Arguments&) {
  const std::string text = to_text(run, value);
  return text == upper(run, text) && text != lower(run, text);
}

bool in(Run& run, const Value& value, const Arguments& arguments) {
  return contains(run, *arguments.bind(run, "in", {"seq"}, 1)[0], value);
}
Value other(Run& run, const Arguments& arguments) { return *arguments.bind(run, "a comparison", {"other"}, 1)[0]; }
/// Python's `is`, of what has one object only; other values are the same when they are equal and of one type.
bool same_as(Run& run, const Value& value, const Arguments& arguments) {
  const Value another = other(run, arguments);
  return value.type_name() == another.type_name() && equal(run, value, another);
}
bool filter(Run& run, const Value& value, const Arguments&) { return find_filter(to_text(run, value)) != nullptr; }
bool test(Run& run, const Value& value, const Arguments&) { return find_test(to_text(run, value)) != nullptr; }
bool eq(Run& run, const Value& value, const Arguments& arguments) { return equal(run, value, other(run, arguments)); }
bool ne(Run& run, const Value& value, const Arguments& arguments) { return !equal(run, value, other(run, arguments)); }
bool lt(Run& run, const Value& value, const Arguments& arguments) {
  return compare(run, value, other(run, arguments)) < 0;
}
bool le(Run& run, const Value& value, const Arguments& arguments) {
  return compare(run, value, other(run, arguments)) <= 0;
}
bool gt(Run& run, const Value& value, const Arguments& arguments) {
  return compare(run, value, other(run, arguments)) > 0;
}
bool ge(Run& run, const Value& value, const Arguments& arguments) {
  return compare(run, value, other(run, arguments)) >= 0;
}

constexpr std::pair<std::string_view, Test> rows[] = {
    {"defined", defined},
    {"undefined", undefined},
    {"none", none},
    {"string", string},
    {"number", number},
    {"integer", integer},
    {"float", real},
    {"boolean", boolean},
    {"true", is_true},
    {"false", is_false},
    {"mapping", mapping},
    {"callable", callable},
    {"iterable", iterable},
    {"sequence", sequence},
    {"even", even},
    {"odd", odd},
    {"lower", lower_case},
    {"upper", upper_case},
    {"in", in},
    {"divisibleby", divisible_by},
    {"sameas", same_as},
    {"filter", filter},
    {"test", test},
    {"eq", eq},
    {"equalto", eq},
    {"==", eq},
    {"ne", ne},
    {"!=", ne},
    {"lt", lt},
    {"lessthan", lt},
    {"<", lt},
    {"le", le},
    {"<=", le},
    {"gt", gt},
    {"greaterthan", gt},
    {">", gt},
    {"ge", ge},
    {">=", ge},
};

}  // namespace

Test find_test(std::string_view name) {
  const auto row = std::find_if(std::begin(rows), std::end(rows), [&](const auto& r) { return r.first == name; });
  return row == std::end(rows) ? nullptr : row->second;
}

}  // namespace pq::jinja
