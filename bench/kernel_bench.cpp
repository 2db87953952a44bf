// kernel_bench: every kernel of every table that this processor runs, on one thread, against its scalar definition.
// Exits with 1 when one is slower than that.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/stopwatch.h"
#include "base/table.h"
#include "kernels/kernels.h"
#include "kernels/select.h"

namespace pq::kernels {
namespace {

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

/// Random bytes, aligned to 64, that live as long as the program.
template <typename T>
T* memory_of(std::int64_t count, std::function<T(std::mt19937&)> make) {
  static std::vector<std::unique_ptr<void, Free>> all;
  static std::mt19937 random(1);
  const std::size_t bytes = (static_cast<std::size_t>(count) * sizeof(T) + 127) / 64 * 64;
  all.emplace_back(std::aligned_alloc(64, bytes));
  auto* values = static_cast<T*>(all.back().get());
  std::memset(values, 0, bytes);
  for (std::int64_t i = 0; i < count; ++i) values[i] = make(random);
  return values;
}
float* floats(std::int64_t count) {
  return memory_of<float>(count, [](std::mt19937& r) { return std::uniform_real_distribution<float>(-1, 1)(r); });
}
std::uint8_t* bytes(std::int64_t count) {
  return memory_of<std::uint8_t>(count, [](std::mt19937& r) { return static_cast<std::uint8_t>(r()); });
}
std::int32_t* zeros(std::int64_t count) {
  return memory_of<std::int32_t>(count, [](std::mt19937&) { return 8; });
}

struct Row {
  std::string name;
  std::function<void(const KernelTable&)> run;
};

/// `group`: columns in a group of two-level weights; 0: no such weights.
Row int_gemm_row(std::int64_t rows, std::int64_t columns, std::int64_t channels, int bits, int planes,
                 std::int64_t segment, std::int64_t group = 0) {
  const std::int64_t panels = channels / panel_channels;
  const std::int64_t segments = columns / segment;
  IntGemm gemm{};
  const std::int64_t bytes_of_groups = group > 0 ? (columns / group * panel_channels + 63) / 64 * 64 : 0;
  gemm.weights.panel_bytes = panel_bytes(columns, bits);
  gemm.weights.codes = bytes(panels * gemm.weights.panel_bytes);
  if (group > 0) gemm.weights.group_scales = bytes(panels * bytes_of_groups);
  gemm.weights.group = group;
  gemm.weights.group_bytes = bytes_of_groups;
  gemm.weights.scale = floats(panels * segments * 16);
  gemm.weights.sum = zeros(panels * segments * 16);
  gemm.weights.common_zero = group > 0 ? 128 : 8;
  gemm.weights.channels = channels;
  gemm.weights.panels = panels;
  gemm.weights.columns = columns;
  gemm.weights.segment = segment;
  gemm.weights.segments = segments;
  gemm.weights.bits = bits;
  const std::int64_t stride = columns + 64;
  gemm.activations.codes = reinterpret_cast<const std::int8_t*>(bytes(planes * rows * stride));
  gemm.activations.scale = floats(rows * segments);
  gemm.activations.sum = zeros(rows * segments);
  gemm.activations.rows = rows;
  gemm.activations.row_stride = stride;
  gemm.activations.plane_stride = rows * stride;
  gemm.activations.planes = planes;
  gemm.out = floats(rows * channels);
  gemm.out_stride = channels;
  void* scratch = floats(static_cast<std::int64_t>(gemm_scratch_bytes(columns) / 4));
  const std::string grouped = group > 0 ? fmt::format("g{}", group) : "";
  return {fmt::format("W{}{}A{} product, {} x {} x {}", bits, grouped, planes == 1 ? 8 : 16, rows, columns, channels),
          [=](const KernelTable& table) { table.int_gemm(gemm, 0, panels, scratch); }};
}

Row float_gemm_row(std::int64_t rows, std::int64_t columns, std::int64_t channels, FloatFormat format) {
  FloatGemm gemm{};
  const std::int64_t panels = channels / panel_channels;
  gemm.weights = {floats(channels * columns), nullptr, channels, panels, columns, format};
  gemm.activations = floats(rows * columns);
  gemm.rows = rows;
  gemm.row_stride = columns;
  gemm.out = floats(rows * channels);
  gemm.out_stride = channels;
  void* scratch = floats(static_cast<std::int64_t>(gemm_scratch_bytes(columns) / 4));
  const char* name = format == FloatFormat::f32 ? "F32" : format == FloatFormat::f16 ? "F16" : "BF16";
  return {fmt::format("{} product, {} x {} x {}", name, rows, columns, channels),
          [=](const KernelTable& table) { table.float_gemm(gemm, 0, panels, scratch); }};
}

Row attention_row(KvFormat format, bool dynamic, std::int64_t first, std::int64_t queries) {
  constexpr std::int64_t dim = 64;
  constexpr std::int64_t heads = 4;
  const std::int64_t tokens = (first + queries + 31) / 32 * 32;
  Attention attention{};
  attention.layout = {format, dynamic, dim, dim, dim, 1};
  const bool floating = format == KvFormat::f16;
  attention.head.key = floating ? reinterpret_cast<std::uint8_t*>(floats(tokens * dim)) : bytes(tokens * dim);
  attention.head.value = floating ? reinterpret_cast<std::uint8_t*>(floats(tokens * dim)) : bytes(tokens * dim);
  attention.head.key_scale = attention.head.value_scale = memory_of<float>(tokens, [](std::mt19937&) { return 0.05F; });
  attention.head.key_zero = attention.head.value_zero = zeros(tokens);
  attention.query = floats(queries * heads * dim);
  attention.query_stride = heads * dim;
  attention.out = floats(queries * heads * dim);
  attention.out_stride = heads * dim;
  attention.queries = queries;
  attention.group_heads = heads;
  attention.first = first;
  attention.scale = 0.125F;
  void* scratch =
      floats(static_cast<std::int64_t>(attention_scratch_bytes(attention.layout, queries * heads) / 4 + 16));
  const char* name = format == KvFormat::int4 ? "int4" : format == KvFormat::int8 ? "int8" : "f16";
  return {fmt::format("attention over {} {}, {} queries at {}", dynamic ? "dynamic" : "static", name, queries, first),
          [=](const KernelTable& table) { table.attend(attention, scratch); }};
}

std::vector<Row> all_rows() {
  std::vector<Row> rows;
  for (const std::int64_t m : {1, 2, 4, 8, 12, 64}) {
    rows.push_back(int_gemm_row(m, 576, 192, 4, 1, 576));
    rows.push_back(int_gemm_row(m, 2048, 256, 4, 1, 2048));
    for (const std::int64_t group : {32, 64}) rows.push_back(int_gemm_row(m, 2048, 256, 4, 1, 2048, group));
    rows.push_back(int_gemm_row(m, 2048, 256, 8, 1, 2048));
    for (const int bits : {2, 3, 4, 8}) rows.push_back(int_gemm_row(m, 1024, 256, bits, 2, 128));
    for (const FloatFormat format : {FloatFormat::f32, FloatFormat::f16, FloatFormat::bf16}) {
      rows.push_back(float_gemm_row(m, 1024, 256, format));
    }
  }
  for (const bool dynamic : {false, true}) {
    for (const KvFormat format : {KvFormat::int4, KvFormat::int8}) {
      rows.push_back(attention_row(format, dynamic, 0, 1));
      rows.push_back(attention_row(format, dynamic, 500, 1));
      rows.push_back(attention_row(format, dynamic, 200, 12));
    }
  }
  rows.push_back(attention_row(KvFormat::f16, false, 500, 1));
  rows.push_back(attention_row(KvFormat::f16, false, 200, 12));
  for (const std::int64_t n : {64, 576, 2048, 8192}) {
    float* x = floats(n);
    float* gamma = floats(n);
    float* out = floats(n);
    std::int8_t* codes = reinterpret_cast<std::int8_t*>(bytes(2 * n));
    float* scale = floats(64);
    std::int32_t* numbers = zeros(128);
    for (const ScaleKind kind : {ScaleKind::fixed, ScaleKind::row}) {
      const QuantizeRow spec{kind, 1, 8, true, 0.01F, 0, 1, 1, n, n, n, 1};
      const QuantizedRow to{codes, n, scale, numbers, numbers + 64};
      const char* name = kind == ScaleKind::fixed ? "static" : "dynamic";
      rows.push_back({fmt::format("norm and {} codes, {}", name, n),
                      [=](const KernelTable& table) { table.norm_quantize(x, gamma, 1e-5F, spec, to, out); }});
      rows.push_back(
          {fmt::format("{} codes, {}", name, n), [=](const KernelTable& table) { table.quantize_row(x, spec, to); }});
    }
    if (n == 64 || n == 2048 || n == 8192) {
      const Hadamard plan{n, 1, 1, n, nullptr, 1 / std::sqrt(static_cast<float>(n))};
      rows.push_back({fmt::format("Hadamard, {}", n), [=](const KernelTable& table) { table.hadamard(x, plan, out); }});
    }
  }
  float* heads = floats(32 * 64);
  float* angles = memory_of<float>(64, [](std::mt19937&) { return std::sqrt(0.5F); });
  rows.push_back(
      {"RoPE, 32 heads of 64", [=](const KernelTable& table) { table.rope(heads, 32, 64, 64, angles, angles + 32); }});
  return rows;
}

double microseconds(const Row& row, const KernelTable& table) {
  double best = 1e18;
  for (int repetition = 0; repetition < 5; ++repetition) {
    int runs = 0;
    const Stopwatch watch;
    double seconds = 0;
    do {
      row.run(table);
      ++runs;
      seconds = watch.seconds();
    } while (seconds < 0.002);
    best = std::min(best, 1e6 * seconds / runs);
  }
  return best;
}

int run() {
  std::vector<const KernelTable*> tables;
  std::vector<std::string> header{"kernel"};
  for (const KernelTable* table : kernel_tables()) {
    if (!supported(*table)) continue;
    tables.push_back(table);
    header.push_back(tables.size() == 1 ? fmt::format("{}, us", table->name) : std::string(table->name));
  }
  Table out(header);
  int slower = 0;
  for (const Row& row : all_rows()) {
    const double scalar = microseconds(row, *tables.front());
    std::vector<std::string> cells{row.name, fmt::format("{:.2f}", scalar)};
    for (std::size_t i = 1; i < tables.size(); ++i) {
      const double times = scalar / microseconds(row, *tables[i]);
      if (times < 1) ++slower;
      cells.push_back(fmt::format("{:.1f}x", times));
    }
    out.add_row(std::move(cells));
  }
  fmt::print("{}\n{} of them slower than the scalar definition\n", out.text(), slower);
  return slower == 0 ? 0 : 1;
}

}  // namespace
}  // namespace pq::kernels

int main() { return pq::kernels::run(); }
