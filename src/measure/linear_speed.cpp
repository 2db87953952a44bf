#include "measure/linear_speed.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "base/index.h"
#include "base/memory_usage.h"
#include "base/parallel_for.h"
#include "base/random.h"
#include "base/stopwatch.h"
#include "numerics/packing.h"

namespace pq::measure {
namespace {

using runtime::PackedLinear;
using runtime::RowBuffer;

struct Precision {
  std::string_view name;
  std::string_view recipe;  // empty: bfloat16
};
constexpr std::array<Precision, 4> precisions{{{"bf16", ""},
                                               {"w8a8-static", "w8a8kv8-static"},
                                               {"w4a8-static", "w4a8kv4-static"},
                                               {"w4a4-static", "w4a4kv4-static"}}};

std::vector<std::byte> random_bytes(std::size_t count, std::uint64_t keep, std::uint64_t set) {
  std::vector<std::byte> bytes(count);
  Random random(0, "linear");
  for (std::size_t at = 0; at < count; at += sizeof(std::uint64_t)) {
    const std::uint64_t word = (random.next() & keep) | set;
    std::memcpy(bytes.data() + at, &word, std::min(sizeof word, count - at));
  }
  return bytes;
}

/// So many layers that the caches cannot hold them, as far as memory allows.
std::int64_t layer_count(std::uint64_t bytes_of_one) {
  constexpr std::uint64_t wanted = std::uint64_t{1} << 30;
  const std::uint64_t total = std::min(wanted, available_bytes() / 4);
  return std::clamp<std::int64_t>(static_cast<std::int64_t>((total + bytes_of_one - 1) / bytes_of_one), 1, 64);
}

}  // namespace

const std::vector<LinearSize>& large_linears() {
  static const std::vector<LinearSize> sizes{{8192, 8192}, {8192, 28672}};
  return sizes;
}

const std::vector<std::int64_t>& linear_rows() {
  static const std::vector<std::int64_t> rows{1, 8, 512};
  return rows;
}

std::vector<std::string> linear_precisions() {
  std::vector<std::string> names;
  for (const Precision& precision : precisions) names.emplace_back(precision.name);
  return names;
}

BenchLinear::BenchLinear(LinearSize size, const std::string& precision, const kernels::KernelTable& table)
    : size_(size), table_(table) {
  const auto* const chosen =
      std::find_if(precisions.begin(), precisions.end(), [&](const Precision& p) { return p.name == precision; });
  if (chosen->recipe.empty()) {
    make_floats();
  } else {
    make_quantized(named_recipe(chosen->recipe));
  }
  const std::int64_t most = *std::max_element(linear_rows().begin(), linear_rows().end());
  floats_ = RowBuffer(most, size.inputs);
  Random random(0, "activations");
  for (std::int64_t row = 0; row < most; ++row) {
    float* const values = floats_.rows(most).row(row);
    for (std::int64_t i = 0; i < size.inputs; ++i) values[i] = static_cast<float>(random.uniform() * 2 - 1);
  }
  out_ = RowBuffer(most, size.outputs);
  buffers_ = runtime::LinearBuffers(most, 0, size.inputs, std::max<std::int64_t>(1, input_.plan.segments), 1);
  scratch_.cover(kernels::gemm_scratch_bytes(input_.plan.padded), thread_count());
}

void BenchLinear::make_quantized(const Recipe& recipe) {
  const int bits = recipe.weight.bits;
  const std::int64_t row_bytes = packed_row_bytes(size_.inputs, bits);
  const auto codes = random_bytes(index(size_.outputs * row_bytes), ~std::uint64_t{0}, 0);
  const std::vector<float> scales(index(size_.outputs), 0.01F);
  const SiteQuantizer site{.scale = {2.0F / static_cast<float>(1 << recipe.activation.bits)}, .zero_point = {0}};
  const auto plan = runtime::plan_segments(recipe.weight, recipe.activation, size_.inputs, 0);
  input_ = runtime::make_linear_input(recipe.activation, site, plan);
  const runtime::QuantizedSource source{.where = "random linear layer",
                                        .shape = {size_.outputs, size_.inputs, false},
                                        .format = recipe.weight,
                                        .codes = codes,
                                        .scales = scales,
                                        .zero_points = {},
                                        .bias = {}};
  const std::int64_t count = layer_count(codes.size());
  for (std::int64_t i = 0; i < count; ++i) layers_.push_back(PackedLinear::pack_codes(source, plan));
}

void BenchLinear::make_floats() {
  // Magnitudes from 2^-7 to 2^-6, either sign.
  const auto values =
      random_bytes(index(size_.outputs * size_.inputs * 2), 0x807f807f807f807fULL, 0x3c003c003c003c00ULL);
  const io::TensorView view{"weight", io::DType::bf16, {size_.outputs, size_.inputs}, values, "random linear layer"};
  const std::int64_t count = layer_count(values.size());
  for (std::int64_t i = 0; i < count; ++i) layers_.push_back(PackedLinear::pack_floats(view, {}));
  const auto plan = runtime::plan_segments({}, {}, size_.inputs, 0);
  input_ = runtime::make_linear_input({}, {}, plan);
  input_.bf16_planes = table_.bf16_products ? 1 : 0;
}

std::int64_t BenchLinear::layers(std::int64_t rows) const {
  constexpr std::int64_t enough_to_compute = 4;
  const auto all = static_cast<std::int64_t>(layers_.size());
  return rows < 64 ? all : std::min(all, enough_to_compute);
}

double BenchLinear::run(std::int64_t rows) {
  const runtime::LinearUnit linear(table_, buffers_, scratch_);
  const Stopwatch stopwatch;
  for (std::int64_t i = 0; i < layers(rows); ++i) {
    const runtime::LinearRows prepared = linear.prepare(input_, floats_.rows(rows));
    linear.multiply(prepared, std::array{runtime::LinearProduct{&layers_[index(i)], nullptr, out_.rows(rows),
                                                                kernels::Store::overwrite}});
  }
  return stopwatch.seconds();
}

Work BenchLinear::work_of(std::int64_t rows) const {
  Work work;
  work.products = input_.plan.integer ? Products::bytes : Products::floats;
  work.few_rows = rows < 32;
  for (std::int64_t i = 0; i < layers(rows); ++i) {
    work.operations += 2.0 * static_cast<double>(rows * size_.inputs * size_.outputs);
    work.bytes += static_cast<double>(layers_[index(i)].bytes());
  }
  return work;
}

}  // namespace pq::measure
