#include "lab/bench_speeds.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>

#include "base/error.h"
#include "base/json.h"

namespace pq::lab {
namespace {

constexpr std::string_view remedy = "give what `pq bench OUT.. --json` writes";

double positive(const Json& row, const char* key, const std::string& path) {
  const auto value = row.find(key);
  if (value == row.end() || !value->is_number() || !std::isfinite(value->get<double>()) || value->get<double>() < 0)
    throw FormatError(path, fmt::format("a row without '{}'", key), remedy);
  return value->get<double>();
}

std::string text(const Json& row, const char* key, const std::string& path) {
  const auto value = row.find(key);
  if (value == row.end() || !value->is_string())
    throw FormatError(path, fmt::format("a row without '{}'", key), remedy);
  return value->get<std::string>();
}

bool is_unquantized(const std::string& recipe) {
  constexpr std::string_view types[] = {"bf16", "f16", "fp16", "f32"};
  return std::find(std::begin(types), std::end(types), recipe) != std::end(types);
}

}  // namespace

BenchSpeeds read_bench_speeds(const std::string& path) {
  const Json json = read_json_file(path);
  const auto rows = json.is_object() ? json.find("rows") : json.end();
  if (!json.is_object() || rows == json.end() || !rows->is_array() || rows->empty())
    throw FormatError(path, "holds no rows", remedy);
  BenchSpeeds speeds;
  for (const Json& row : *rows) {
    if (!row.is_object()) throw FormatError(path, "a row that is no object", remedy);
    const std::string test = text(row, "test", path);
    const bool first_that_generates = test.starts_with("tg") && !speeds.test.starts_with("tg");
    if (speeds.test.empty() || first_that_generates) speeds.test = test;
  }
  for (const Json& row : *rows) {
    if (text(row, "test", path) != speeds.test) continue;
    speeds.speeds.push_back(
        {text(row, "recipe", path), positive(row, "tokens_per_second", path), positive(row, "spread", path)});
  }
  return speeds;
}

void add_speeds(std::vector<ComparedRow>& rows, const BenchSpeeds& speeds, const std::string& path) {
  bool any = false;
  for (ComparedRow& row : rows) {
    if (!row.whole) continue;
    const auto speed = std::find_if(speeds.speeds.begin(), speeds.speeds.end(), [&](const BenchSpeeds::Speed& one) {
      return row.quantized ? one.recipe == row.recipe().name : is_unquantized(one.recipe);
    });
    if (speed == speeds.speeds.end()) continue;
    any = true;
    row.tokens_per_second = speed->tokens_per_second;
    row.tokens_per_second_spread = speed->spread * speed->tokens_per_second / 2;
  }
  if (!any) throw InputError(path, "has none of the recipes that are compared", "measure them with pq bench");
}

}  // namespace pq::lab
