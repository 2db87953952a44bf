#include "jinja/arithmetic.h"

#include <fmt/format.h>

#include <cmath>

#include "jinja/formatting.h"

namespace pq::jinja {
namespace {

[[noreturn]] void overflow(Run& run) { run.unsupported("a whole number beyond 64 bits"); }

Value repeated(Run& run, const Value& value, std::int64_t times) {
  const auto count = static_cast<std::size_t>(std::max<std::int64_t>(times, 0));
  const auto spend = [&](std::size_t size) {
    if (size > 0 && count > SIZE_MAX / size) run.spend(SIZE_MAX);
    run.spend(size * count);
  };
  if (const std::string* text = value.string()) {
    spend(text->size());
    std::string out;
    if (text->empty()) return out;
    out.reserve(text->size() * count);
    for (std::size_t i = 0; i < count; ++i) out += *text;
    return out;
  }
  const Sequence& sequence = *value.sequence();
  spend(sizeof(Value) * sequence.items.size());
  std::vector<Value> items;
  if (!sequence.items.empty()) {
    for (std::size_t i = 0; i < count; ++i) items.insert(items.end(), sequence.items.begin(), sequence.items.end());
  }
  return Value::sequence(run, sequence.kind, std::move(items));
}

bool is_list_or_tuple(const Value& value) {
  return value.sequence() != nullptr && value.sequence()->kind <= SequenceKind::tuple;
}

/// nullopt for a power that is no whole number.
std::optional<std::int64_t> whole_power(Run& run, std::int64_t base, std::int64_t exponent) {
  if (exponent < 0) return std::nullopt;
  std::int64_t result = 1;
  for (; exponent > 0; --exponent) {
    if (base == 0 || base == 1) return base;
    if (base == -1) return exponent % 2 == 0 ? result : -result;
    if (__builtin_mul_overflow(result, base, &result)) overflow(run);
  }
  return result;
}

std::optional<Value> whole_arithmetic(Run& run, std::string_view sign, std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  if (sign == "+" || sign == "-" || sign == "*") {
    const bool overflows = sign == "+"   ? __builtin_add_overflow(a, b, &result)
                           : sign == "-" ? __builtin_sub_overflow(a, b, &result)
                                         : __builtin_mul_overflow(a, b, &result);
    if (overflows) overflow(run);
    return result;
  }
  if (sign == "**") {
    const auto power = whole_power(run, a, b);
    return power ? std::optional<Value>(*power) : std::nullopt;
  }
  if (sign == "/") return std::nullopt;
  if (b == 0) run.fail("division by zero");
  if (b == -1) {
    if (sign == "%") return std::int64_t{0};
    if (__builtin_sub_overflow(std::int64_t{0}, a, &result)) overflow(run);
    return result;
  }
  const bool rounds = a % b != 0 && (a < 0) != (b < 0);
  return sign == "//" ? a / b - (rounds ? 1 : 0) : a % b + (rounds ? b : 0);
}

double real_arithmetic(Run& run, std::string_view sign, double a, double b) {
  if (sign == "+") return a + b;
  if (sign == "-") return a - b;
  if (sign == "*") return a * b;
  if (sign == "**") {
    const double power = std::pow(a, b);
    if (!std::isfinite(power) && std::isfinite(a) && std::isfinite(b)) run.fail("the result of ** is out of range");
    return power;
  }
  if (b == 0) run.fail("division by zero");
  if (sign == "/") return a / b;
  double rest = std::fmod(a, b);
  if (rest != 0 && (rest < 0) != (b < 0)) rest += b;
  return sign == "%" ? rest : std::floor((a - rest) / b + 0.5);
}

}  // namespace

Value arithmetic(Run& run, std::string_view sign, const Value& a, const Value& b) {
  run.spend(1);
  if (sign == "%" && a.string() != nullptr) return percent_format(run, *a.string(), b);
  if (a.is_undefined()) run.fail(a.why_undefined());
  if (b.is_undefined()) run.fail(b.why_undefined());
  if (a.is_number() && b.is_number()) {
    const auto x = a.as_int();
    const auto y = b.as_int();
    if (x && y) {
      if (const auto whole = whole_arithmetic(run, sign, *x, *y)) return *whole;
    }
    return real_arithmetic(run, sign, *a.as_float(), *b.as_float());
  }
  if (sign == "+" && a.string() != nullptr && b.string() != nullptr) {
    run.spend(a.string()->size() + b.string()->size());
    return *a.string() + *b.string();
  }
  if (sign == "+" && is_list_or_tuple(a) && is_list_or_tuple(b) && a.sequence()->kind == b.sequence()->kind) {
    run.spend(sizeof(Value) * (a.sequence()->items.size() + b.sequence()->items.size()));
    std::vector<Value> items = a.sequence()->items;
    items.insert(items.end(), b.sequence()->items.begin(), b.sequence()->items.end());
    return Value::sequence(run, a.sequence()->kind, std::move(items));
  }
  if (sign == "*") {
    const auto repeats = [](const Value& v) { return v.string() != nullptr || is_list_or_tuple(v); };
    if (repeats(a) && b.as_int()) return repeated(run, a, *b.as_int());
    if (repeats(b) && a.as_int()) return repeated(run, b, *a.as_int());
  }
  run.fail(fmt::format("'{}' cannot be computed of a {} and a {}", sign, a.type_name(), b.type_name()));
}

Value negated(Run& run, const Value& value) {
  if (value.is_undefined()) run.fail(value.why_undefined());
  if (value.is_float()) return -*value.as_float();
  return arithmetic(run, "-", Value(std::int64_t{0}), value);
}

}  // namespace pq::jinja
