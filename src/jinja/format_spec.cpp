#include "jinja/format_spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <vector>

#include "jinja/output.h"
#include "jinja/text.h"
#include "text/unicode.h"

namespace pq::jinja {
namespace {

constexpr std::int64_t max_precision = 1000;

std::string sign_of(const FormatSpec& spec, bool negative) {
  if (negative) return "-";
  return spec.sign == '-' ? "" : std::string(1, spec.sign);
}

void check_precision(Run& run, const FormatSpec& spec) {
  if (spec.precision.value_or(0) > max_precision) run.unsupported("a format with more than 1000 digits");
}

/// `digits` with a separator every `size` from its end, or from its '.'.
std::string grouped(std::string_view digits, char separator, std::size_t size) {
  const std::size_t whole = std::min(digits.find_first_not_of("0123456789abcdefABCDEF"), digits.size());
  std::string out;
  for (std::size_t i = 0; i < whole; ++i) {
    if (i > 0 && (whole - i) % size == 0) out += separator;
    out += digits[i];
  }
  return out.append(digits.substr(whole));
}

/// A number's parts, filled up to the width.
std::string assembled(Run& run, const FormatSpec& spec, const std::string& sign, const std::string& digits) {
  const char align = spec.align == '\0' ? '>' : spec.align;
  const std::int64_t missing = missing_characters(run, sign + digits, spec.width);
  if (align == '=') {
    if (spec.grouping != '\0' && spec.fill == "0" && missing > 0)
      run.unsupported("a format with both leading zeros and separators");
    return sign + padded(run, digits, missing, 0, spec.fill);
  }
  const std::int64_t before = align == '<' ? 0 : align == '>' ? missing : missing / 2;
  return padded(run, sign + digits, before, missing - before, spec.fill);
}

/// "[[fill]align][sign][#][0][width][grouping][.precision][type]"
FormatSpec parse_spec(Run& run, std::string_view text) {
  FormatSpec spec;
  const auto is_align = [](char c) { return c == '<' || c == '>' || c == '^' || c == '='; };
  const auto take = [&](std::string_view any) {
    if (text.empty() || any.find(text[0]) == std::string_view::npos) return '\0';
    const char taken = text[0];
    text.remove_prefix(1);
    return taken;
  };
  const auto number = [&](std::int64_t& value) {
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (code == std::errc::result_out_of_range) run.unsupported("a format with a number beyond 64 bits");
    const bool is_number = code == std::errc{} && text[0] != '-';
    if (is_number) text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    return is_number;
  };
  const std::string_view whole = text;
  bool has_fill = false;
  if (!text.empty()) {
    const std::size_t first = utf8_length(text[0]);
    if (text.size() > first && is_align(text[first])) {
      spec.fill = text.substr(0, first);
      has_fill = true;
      text.remove_prefix(first);
    }
  }
  spec.align = take("<>^=");
  if (const char sign = take("-+ ")) spec.sign = sign;
  spec.alternate = take("#") != '\0';
  if (take("0") != '\0') {
    if (!has_fill) spec.fill = "0";
    if (spec.align == '\0') spec.align = '=';
  }
  number(spec.width);
  spec.grouping = take(",_");
  if (take(".") != '\0') {
    std::int64_t precision = 0;
    if (!number(precision)) run.fail(fmt::format("the format '{}' lacks its precision", whole));
    spec.precision = precision;
  }
  spec.type = take("bcdeEfFgGnosxX%");
  if (!text.empty()) run.fail(fmt::format("'{}' is no format", whole));
  return spec;
}

}  // namespace

std::string format_whole(Run& run, const FormatSpec& spec, std::int64_t value) {
  check_precision(run, spec);
  const bool negative = value < 0;
  const std::uint64_t size = negative ? -static_cast<std::uint64_t>(value) : static_cast<std::uint64_t>(value);
  std::string digits;
  std::string prefix;
  switch (spec.type) {
    case 'x':
    case 'X':
      digits = spec.type == 'x' ? fmt::format("{:x}", size) : fmt::format("{:X}", size);
      prefix = spec.type == 'x' ? "0x" : "0X";
      break;
    case 'o':
      digits = fmt::format("{:o}", size);
      prefix = "0o";
      break;
    case 'b':
      digits = fmt::format("{:b}", size);
      prefix = "0b";
      break;
    default:
      digits = fmt::format("{}", size);
  }
  const auto least = static_cast<std::size_t>(spec.precision.value_or(0));
  if (digits.size() < least) digits.insert(0, least - digits.size(), '0');
  if (spec.grouping != '\0') digits = grouped(digits, spec.grouping, prefix.empty() ? 3 : 4);
  return assembled(run, spec, sign_of(spec, negative) + (spec.alternate ? prefix : ""), digits);
}

std::string format_real(Run& run, const FormatSpec& spec, double value) {
  check_precision(run, spec);
  if (spec.alternate) run.unsupported("the format '#' of a float");
  const double size = std::abs(spec.type == '%' ? value * 100 : value);
  const char type = spec.type == '%' ? 'f' : spec.type;
  const std::array<char, 5> format{'%', '.', '*', type, '\0'};
  std::array<char, 1500> buffer{};
  const int written =
      std::snprintf(buffer.data(), buffer.size(), format.data(), static_cast<int>(spec.precision.value_or(6)), size);
  std::string digits(buffer.data(), static_cast<std::size_t>(std::clamp<int>(written, 0, buffer.size() - 1)));
  if (spec.grouping != '\0' && std::isfinite(value)) digits = grouped(digits, spec.grouping, 3);
  if (spec.type == '%') digits += '%';
  return assembled(run, spec, sign_of(spec, std::signbit(value) && !std::isnan(value)), digits);
}

std::string format_text(Run& run, const FormatSpec& spec, std::string_view text) {
  std::string_view cut = text;
  if (spec.precision) {
    std::size_t bytes = 0;
    for (std::int64_t i = 0; i < *spec.precision && bytes < text.size(); ++i) bytes += utf8_length(text[bytes]);
    cut = text.substr(0, bytes);
  }
  const std::int64_t missing = missing_characters(run, cut, spec.width);
  const std::int64_t before = spec.align == '>' ? missing : spec.align == '^' ? missing / 2 : 0;
  return padded(run, cut, before, missing - before, spec.fill);
}

std::string format_value(Run& run, std::string_view text, const Value& value) {
  if (text.empty()) return to_text(run, value);
  FormatSpec spec = parse_spec(run, text);
  const auto refuse = [&] { run.fail(fmt::format("the format '{}' is none of a {}", text, value.type_name())); };
  if (value.string() != nullptr) {
    if (spec.align == '=' && spec.fill == "0") spec.align = '<';  // a width like 05
    if ((spec.type != '\0' && spec.type != 's') || spec.align == '=' || spec.sign != '-' || spec.alternate ||
        spec.grouping != '\0')
      refuse();
    return format_text(run, spec, *value.string());
  }
  if (!value.is_number()) refuse();
  const bool is_whole = !value.is_float();
  const bool as_real = std::string_view("eEfFgG%").find(spec.type) != std::string_view::npos && spec.type != '\0';
  if (as_real) {
    if (spec.type == 'g' || spec.type == 'G') spec.precision = std::max<std::int64_t>(spec.precision.value_or(6), 1);
    return format_real(run, spec, *value.as_float());
  }
  if (is_whole) {
    if (spec.type == 'c' || spec.type == 'n') run.unsupported(fmt::format("the format '{}'", spec.type));
    if (spec.type == 's' || spec.precision) refuse();
    return format_whole(run, spec, *value.as_int());
  }
  if (spec.type == 'n') run.unsupported("the format 'n'");
  if (spec.type != '\0') refuse();
  const double real = *value.as_float();
  std::string digits = float_text(std::abs(real));
  if (spec.precision) {  // as 'g', with a digit behind the point
    FormatSpec general;
    general.type = 'g';
    general.precision = std::max<std::int64_t>(*spec.precision, 1);
    digits = format_real(run, general, std::abs(real));
    if (digits.find_first_of(".en") == std::string::npos) digits += ".0";
  }
  if (spec.grouping != '\0') digits = grouped(digits, spec.grouping, 3);
  return assembled(run, spec, sign_of(spec, std::signbit(real)), digits);
}

}  // namespace pq::jinja
