#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "io/dtype.h"

namespace pq::io {

/// The element type that a GGUF file numbers so, or nothing for one that is not read here.
std::optional<DType> dtype_of_ggml_type(std::uint32_t type);
/// The number of an element type in GGUF files; nothing for one that they do not have.
std::optional<std::uint32_t> ggml_type_of(DType dtype);
/// "IQ4_XS (23)" for a type that ggml has, else "99".
std::string ggml_type_text(std::uint32_t type);

/// Blocks of a block type to float32, with ggml's formulas (ggml-quants.c) in the order of operations of the `gguf`
/// package, whose values these equal bit for bit. `blocks` holds out.size() / dtype_block(dtype) blocks at any address.
/// Throws std::logic_error for another type or measure.
void dequantize_blocks(DType dtype, std::span<const std::byte> blocks, std::span<float> out);

}  // namespace pq::io
