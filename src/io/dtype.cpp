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
  std::size_t size;
  bool floating;
};

// In the order of the enumeration.
constexpr std::array<DTypeRow, 9> dtypes{{
    {DType::f32, "F32", 4, true},
    {DType::f16, "F16", 2, true},
    {DType::bf16, "BF16", 2, true},
    {DType::f64, "F64", 8, true},
    {DType::u8, "U8", 1, false},
    {DType::i8, "I8", 1, false},
    {DType::i16, "I16", 2, false},
    {DType::i32, "I32", 4, false},
    {DType::i64, "I64", 8, false},
}};

const DTypeRow& row(DType dtype) { return dtypes[static_cast<std::size_t>(dtype)]; }

}  // namespace

std::string_view dtype_name(DType dtype) { return row(dtype).name; }
std::size_t dtype_size(DType dtype) { return row(dtype).size; }
bool is_floating(DType dtype) { return row(dtype).floating; }

std::optional<DType> dtype_from_name(std::string_view name) {
  const auto* found =
      std::find_if(dtypes.begin(), dtypes.end(), [&](const DTypeRow& entry) { return entry.name == name; });
  if (found == dtypes.end()) return std::nullopt;
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
  if (!count || *count > std::numeric_limits<std::int64_t>::max() / size) {
    throw std::logic_error(fmt::format("tensor '{}' cannot have the shape {}", name, shape_text(shape)));
  }
  return static_cast<std::uint64_t>(*count * size);
}

}  // namespace pq::io
