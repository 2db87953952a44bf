#include "report/number.h"

#include <fmt/format.h>

#include <cmath>
#include <string_view>

namespace pq::report {
namespace {

/// "1.500" -> "1.5", "2.0" -> "2", "-0" -> "0".
std::string without_idle_zeros(std::string text) {
  if (text.find('.') != std::string::npos) {
    text.erase(text.find_last_not_of('0') + 1);
    if (text.back() == '.') text.pop_back();
  }
  return text == "-0" ? "0" : text;
}

std::string superscript(int value) {
  constexpr std::string_view digits[] = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
  std::string out;
  for (const char c : std::to_string(value)) out += c == '-' ? "⁻" : digits[c - '0'];
  return out;
}

}  // namespace

std::string short_number(double value, int digits) {
  if (std::isnan(value)) return "-";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  if (value == 0) return "0";
  const std::string scientific = fmt::format("{:.{}e}", value, digits - 1);  // rounded: 9.9996 is 10.00
  const std::size_t e = scientific.find('e');
  const int exponent = std::stoi(scientific.substr(e + 1));
  if (exponent < -4 || exponent >= 7)
    return fmt::format("{}e{}", without_idle_zeros(scientific.substr(0, e)), exponent);
  return without_idle_zeros(fmt::format("{:.{}f}", value, std::max(0, digits - 1 - exponent)));
}

std::string coordinate(double value) { return without_idle_zeros(fmt::format("{:.1f}", value)); }

std::string tick_label(double value) {
  const double exponent = std::log10(std::fabs(value));
  const int whole = static_cast<int>(std::lround(exponent));
  const bool power = value > 0 && std::fabs(exponent - whole) < 1e-9;
  if (power && (whole >= 4 || whole <= -4)) return "10" + superscript(whole);
  return short_number(value, 3);
}

}  // namespace pq::report
