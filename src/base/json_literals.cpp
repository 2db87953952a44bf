#include "base/json_literals.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

namespace pq {
namespace {

using namespace std::string_view_literals;

struct Literal {
  std::string_view name;
  double value;
};
constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr std::array<Literal, 3> literals{
    {{"NaN", std::numeric_limits<double>::quiet_NaN()}, {"Infinity", infinity}, {"-Infinity", -infinity}}};

/// Calls found(position, number of the literal) for those that stand where JSON has a value.
template <typename Found>
void for_each_literal(std::string_view text, const Found& found) {
  bool in_string = false;
  bool value_may_begin = true;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
      continue;
    }
    if (value_may_begin) {
      for (std::size_t which = 0; which < literals.size(); ++which) {
        const std::string_view name = literals[which].name;
        const std::string_view behind = text.substr(i).substr(std::min(name.size(), text.size() - i), 1);
        if (text.substr(i, name.size()) != name || ",]} \t\r\n"sv.find(behind) == std::string_view::npos) continue;
        found(i, which);
        i += name.size() - 1;
        break;
      }
    }
    in_string = c == '"';
    value_may_begin = ":,[ \t\r\n"sv.find(c) != std::string_view::npos;
  }
}

}  // namespace

PythonJson::PythonJson(std::string_view text) : original_(text) {
  if (text.find("NaN") == std::string_view::npos && text.find("Infinity") == std::string_view::npos) return;
  spelling_ = "0e0";
  while (text.find(spelling_) != std::string_view::npos) spelling_ += '0';
  std::size_t copied = 0;
  for_each_literal(text, [&](std::size_t at, std::size_t which) {
    replaced_.append(text.substr(copied, at - copied)).append(spelling_).append(std::to_string(which));
    copied = at + literals[which].name.size();
    changes_.emplace_back(replaced_.size(), copied);
  });
  if (!changes_.empty()) replaced_.append(text.substr(copied));
}

double PythonJson::number(double value, std::string_view spelling) const {
  const bool replaced = !changes_.empty() && spelling.size() == spelling_.size() + 1 && spelling.starts_with(spelling_);
  return replaced ? literals[static_cast<std::size_t>(spelling.back() - '0')].value : value;
}

std::size_t PythonJson::original_byte(std::size_t byte) const {
  const auto behind =
      std::find_if(changes_.rbegin(), changes_.rend(), [byte](const auto& change) { return change.first <= byte; });
  return behind == changes_.rend() ? byte : behind->second + (byte - behind->first);
}

std::string number_text(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  return nlohmann::json(value).dump();
}

}  // namespace pq
