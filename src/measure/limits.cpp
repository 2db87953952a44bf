#include "measure/limits.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>

#include "base/memory_usage.h"

namespace pq::measure {
namespace {

using kernels::MachineLimits;

struct Row {
  std::string_view key;
  std::string_view name;
  std::string_view unit;
  double MachineLimits::*value;
};
constexpr auto rows = std::to_array<Row>({
    {"int8_ops", "int8", "GOP/s", &MachineLimits::int8_ops},
    {"int8_matrix_ops", "int8 matrix unit", "GOP/s", &MachineLimits::int8_matrix_ops},
    {"bf16_ops", "bf16", "GFLOP/s", &MachineLimits::bf16_ops},
    {"bf16_matrix_ops", "bf16 matrix unit", "GFLOP/s", &MachineLimits::bf16_matrix_ops},
    {"f32_ops", "f32", "GFLOP/s", &MachineLimits::f32_ops},
    {"read_bytes", "reads", "GB/s", &MachineLimits::read_bytes},
});

struct Peak {
  double operations;
  std::string_view name;
};
Peak larger(Peak a, Peak b) { return b.operations > a.operations ? b : a; }

Peak peak_of(const Work& work, const MachineLimits& limits) {
  Peak bytes{limits.int8_ops, "int8 peak"};
  if (!work.few_rows) bytes = larger(bytes, {limits.int8_matrix_ops, "int8 matrix peak"});
  if (work.products == Products::bytes) return bytes;
  Peak floats = larger({limits.f32_ops, "f32 peak"}, {limits.bf16_ops, "bf16 peak"});
  if (!work.few_rows) floats = larger(floats, {limits.bf16_matrix_ops, "bf16 matrix peak"});
  if (work.products == Products::floats) return floats;
  return larger(floats, {bytes.operations / 2, bytes.name});
}

/// Larger than the caches of most machines, smaller than what is left over.
std::size_t probe_bytes() {
  constexpr std::uint64_t wanted = std::uint64_t{2} << 30;
  constexpr std::uint64_t least = std::uint64_t{64} << 20;
  return static_cast<std::size_t>(std::clamp(available_bytes() / 8, least, wanted));
}

}  // namespace

double median_of(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

Bound bound_of(const Work& work, const MachineLimits& limits) {
  const Peak peak = peak_of(work, limits);
  const Bound computing{work.operations / peak.operations, peak.name};
  const Bound reading{work.bytes / limits.read_bytes, "read bandwidth"};
  return reading.seconds > computing.seconds ? reading : computing;
}

LimitLog::LimitLog(const kernels::KernelTable& table) : probe_(table, probe_bytes()) {}

MachineLimits LimitLog::now() {
  constexpr int tries = 3;
  seen_.push_back(probe_.measure(tries));
  return seen_.back();
}

MachineLimits LimitLog::median() const {
  MachineLimits limits;
  for (const Row& row : rows) {
    std::vector<double> values;
    for (const MachineLimits& seen : seen_) values.push_back(seen.*row.value);
    limits.*row.value = median_of(std::move(values));
  }
  return limits;
}

MachineLimits LimitLog::best() const {
  MachineLimits limits;
  for (const MachineLimits& seen : seen_) {
    for (const Row& row : rows) limits.*row.value = std::max(limits.*row.value, seen.*row.value);
  }
  return limits;
}

Json limits_json(const MachineLimits& limits) {
  Json json = Json::object();
  for (const Row& row : rows) {
    const double value = limits.*row.value;
    json[std::string(row.key) + "_per_second"] = value > 0 ? Json(value) : Json(nullptr);
  }
  return json;
}

std::string limits_text(const MachineLimits& limits) {
  std::string text;
  for (const Row& row : rows) {
    const double value = limits.*row.value;
    if (value <= 0) continue;
    text +=
        fmt::format("{}{} {:.{}f} {}", text.empty() ? "" : ", ", row.name, value / 1e9, value < 1e11 ? 1 : 0, row.unit);
  }
  return text;
}

}  // namespace pq::measure
