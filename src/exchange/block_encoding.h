#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/dtype.h"
#include "model/block_layout.h"
#include "model/quantized_block.h"
#include "model/recipe.h"

namespace pq::exchange {

// Quantized weights in ggml's block types (ggml-quants.c), value for value:
//
//   4 and 3 bits, symmetric   Q4_0   d (q - 8): q = code + 8, d = scale
//   2 bits, symmetric         Q2_0   d (q - 1): q = 1 - code, d = -scale (code -2 .. 1); where 64 does not divide, Q4_0
//   5 to 8 bits, symmetric    Q8_0   d q: q = code
//   2 to 4 bits, asymmetric   Q4_1   d q + m: d = scale, m = -zero_point * scale
//   16 bits                   F16
//
// d and m are binary16, so that nothing is lost exactly where scales (and zero points times scales) are such numbers.

/// Which of them the weights of this model take. Throws UnsupportedError naming the recipe's field for a format that
/// none of them holds, or a group that does not end where their blocks do. `where` names the checkpoint.
io::DType weight_type(const QuantizerFormat& format, const ModelSpec& spec, std::string_view where);

/// What 16 bits leave of the scales.
enum class ScaleRounding {
  refuse,  ///< a scale that is no binary16 number is an error
  round,   ///< to the nearest
};

/// One linear layer in memory, and how its rows are to be stored.
struct EncodedLinear {
  const QuantizedLinear& linear;
  LinearShape shape;
  std::int64_t rope_pairs = 0;  ///< not 0: rows of each head of so many channels as rotation pairs (io::TensorView)
};

/// The layer's rows in `type`, [out] rows of in / block blocks. Throws UnsupportedError naming the tensor and the value
/// for what binary16 does not hold (unless it is to be rounded), and for a magnitude beyond its range.
std::vector<std::byte> encode_linear(const EncodedLinear& layer, const QuantizerFormat& format, io::DType type,
                                     ScaleRounding rounding, const std::string& name);

/// The same layer's weights in float32, [out, in], in the checkpoint's order of rows: (code - zero_point) * scale of
/// numerics/quantize.h, or the binary16 values of unquantized weights.
std::vector<float> dequantized(const QuantizedLinear& linear, const LinearShape& shape, const QuantizerFormat& format);

}  // namespace pq::exchange
