#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/kernels.h"
#include "numerics/quantize.h"
#include "runtime/aligned_buffer.h"
#include "runtime/model_parts.h"

namespace pq::runtime {

/// Tokens that go through the layers together.
inline constexpr std::int64_t most_rows = 512;
/// Tokens of one attention task.
inline constexpr std::int64_t attention_tile = 16;

/// The intermediate values of a forward pass over `rows` tokens. Rows of floats are padded to a multiple of 32 with
/// zeros that nothing writes to.
struct Workspace {
  std::int64_t rows = 0;
  std::int64_t threads = 0;

  std::int64_t hidden_stride = 0;
  std::int64_t query_stride = 0;
  std::int64_t kv_stride = 0;
  std::int64_t ffn_stride = 0;
  AlignedBuffer residual;  ///< [rows][hidden_stride]
  AlignedBuffer normed;    ///< [rows][hidden_stride]
  AlignedBuffer query;     ///< [rows][query_stride]
  AlignedBuffer key;       ///< [rows][kv_stride]
  AlignedBuffer value;     ///< [rows][kv_stride]
  AlignedBuffer attended;  ///< [rows][query_stride]
  AlignedBuffer product;   ///< [rows][ffn_stride]

  std::int64_t code_stride = 0;   ///< bytes
  std::int64_t plane_stride = 0;  ///< bytes
  std::int64_t most_segments = 0;
  AlignedBuffer codes;                     ///< [2][rows][code_stride]
  AlignedBuffer scales;                    ///< [rows][most_segments]
  AlignedBuffer zeros;                     ///< the same
  AlignedBuffer sums;                      ///< the same
  AlignedBuffer rounded;                   ///< bf16 [rows][code_stride], where products of bf16 are wanted
  std::vector<AffineParams> key_params;    ///< [rows]: scale of a whole token
  std::vector<AffineParams> value_params;  ///< [rows]

  std::int64_t scratch_bytes = 0;
  AlignedBuffer scratch;  ///< [threads][scratch_bytes]

  /// Makes room for so many rows and threads.
  void cover(const ModelParts& parts, std::int64_t rows_needed, std::int64_t threads_needed);
  std::byte* scratch_of(std::size_t thread) {
    return scratch.data() + thread * static_cast<std::size_t>(scratch_bytes);
  }
};

}  // namespace pq::runtime
