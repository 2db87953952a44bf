#include "io/dtype.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <limits>
#include <stdexcept>

namespace pq::io {
namespace {

struct DTypeRow {
  DType dtype;
  std::string_view name;
  std::size_t block;
  std::size_t size;
  bool floating;
};

// In the order of the enumeration.
constexpr std::array<DTypeRow, 20> dtypes{{
    {DType::f32, "F32", 1, 4, true},       {DType::f16, "F16", 1, 2, true},       {DType::bf16, "BF16", 1, 2, true},
    {DType::f64, "F64", 1, 8, true},       {DType::u8, "U8", 1, 1, false},        {DType::i8, "I8", 1, 1, false},
    {DType::i16, "I16", 1, 2, false},      {DType::i32, "I32", 1, 4, false},      {DType::i64, "I64", 1, 8, false},
    {DType::q2_0, "Q2_0", 64, 18, true},   {DType::q4_0, "Q4_0", 32, 18, true},   {DType::q4_1, "Q4_1", 32, 20, true},
    {DType::q5_0, "Q5_0", 32, 22, true},   {DType::q5_1, "Q5_1", 32, 24, true},   {DType::q8_0, "Q8_0", 32, 34, true},
    {DType::q2_k, "Q2_K", 256, 84, true},  {DType::q3_k, "Q3_K", 256, 110, true}, {DType::q4_k, "Q4_K", 256, 144, true},
    {DType::q5_k, "Q5_K", 256, 176, true}, {DType::q6_k, "Q6_K", 256, 210, true},
}};

const DTypeRow& row(DType dtype) { return dtypes[static_cast<std::size_t>(dtype)]; }

}  // namespace

std::string_view dtype_name(DType dtype) { return row(dtype).name; }
std::size_t dtype_block(DType dtype) { return row(dtype).block; }
std::size_t dtype_size(DType dtype) { return row(dtype).size; }
bool is_floating(DType dtype) { return row(dtype).floating; }
bool is_block_type(DType dtype) { return row(dtype).block > 1; }

std::optional<DType> dtype_from_name(std::string_view name) {
  const auto* found =
      std::find_if(dtypes.begin(), dtypes.end(), [&](const DTypeRow& entry) { return entry.name == name; });
  if (found == dtypes.end() || found->block > 1) return std::nullopt;
  return found->dtype;
}

std::optional<std::int64_t> element_count(std::span<const std::int64_t> shape) {
  std::int64_t count = 1;
  for (const std::int64_t dimension : shape) {
    if (dimension < 0) return std::nullopt;
    if (dimension > 0 && count > std::numeric_limits<std::int64_t>::max() / dimension) return std::nullopt;
    count *= dimension;
  }
  return count;
}

std::string shape_text(std::span<const std::int64_t> shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

std::uint64_t TensorDeclaration::byte_count() const {
  const auto count = element_count(shape);
  const auto size = static_cast<std::int64_t>(dtype_size(dtype));
  const auto block = static_cast<std::int64_t>(dtype_block(dtype));
  if (!count || *count % block != 0 || *count / block > std::numeric_limits<std::int64_t>::max() / size) {
    throw std::logic_error(fmt::format("tensor '{}' cannot have the shape {}", name, shape_text(shape)));
  }
  return static_cast<std::uint64_t>(*count / block * size);
}

}  // namespace pq::io
