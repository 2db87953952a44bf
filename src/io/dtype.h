#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace pq::io {

/// Element types of the safetensors format that are read here (others may stand in a file, but cannot be asked for),
/// and the block types of GGUF, which keep some consecutive elements of a row together with their scale.
enum class DType {
  f32,
  f16,
  bf16,
  f64,
  u8,
  i8,
  i16,
  i32,
  i64,
  q2_0,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q8_0,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k
};

/// Name as it stands in a safetensors header, e.g. "BF16"; of a block type ggml's, e.g. "Q4_K".
std::string_view dtype_name(DType dtype);
/// Elements that are stored together: 1, or those of a block.
std::size_t dtype_block(DType dtype);
/// Bytes of dtype_block(dtype) elements.
std::size_t dtype_size(DType dtype);
/// The type of this name in a safetensors header, or nothing for one that is not read here.
std::optional<DType> dtype_from_name(std::string_view name);
/// F32, F16, BF16, F64 or a block type: what to_float32 accepts.
bool is_floating(DType dtype);
/// A number of elements a scale: such weights lie on a grid already.
bool is_block_type(DType dtype);

/// Product of the dimensions (1 for a scalar), or nothing when a dimension is negative or the product exceeds 2^63 - 1.
std::optional<std::int64_t> element_count(std::span<const std::int64_t> shape);

/// "[8192, 256]"
std::string shape_text(std::span<const std::int64_t> shape);

/// Name, type and shape of a tensor that is to be written or expected.
struct TensorDeclaration {
  std::string name;
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;

  /// Bytes of the data. Throws std::logic_error when the shape is negative or too large for 63 bits.
  std::uint64_t byte_count() const;
  bool operator==(const TensorDeclaration&) const = default;
};

}  // namespace pq::io
