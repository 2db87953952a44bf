#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/block_tensors.h"
#include "io/foreign_config.h"
#include "io/safetensors.h"
#include "model/quantized_block.h"

namespace pq::io {

/// How codes stand in a tensor of 32-bit words, or of signed bytes.
struct CodePacking {
  bool bytes = false;        ///< I8, one code less 2^(bits - 1) in each; else I32 words
  bool output_first = true;  ///< the matrix of codes is [out, in], or [out, groups]; else the other way round
  bool along_rows = true;    ///< a stream of codes runs along a row of that matrix; else down a column
  bool interleaved = false;  ///< of 8 codes in a word, place i has the one numbered 0, 2, 4, 6, 1, 3, 5, 7 (AutoAWQ)
  bool operator==(const CodePacking&) const = default;
};

/// One layout: which tensors hold a linear layer, by the ends of their names, and how codes unpack. A stream is little
/// endian: code i of b bits takes the bits [i * b, (i + 1) * b), bit j of it is bit j % 32 of word j / 32.
struct ForeignLayoutRow {
  ForeignLayout layout;
  std::string_view name;
  std::string_view codes;          ///< ".weight_packed"
  std::string_view scales;         ///< floats, [out, groups], or the other way round
  std::string_view zeros;          ///< packed as `zero_packing` says
  std::string_view column_groups;  ///< I32 [in]: the group of each column
  CodePacking code_packing;
  CodePacking zero_packing;
  bool scales_output_first;
  bool always_zeros;  ///< zero points stand there in symmetric formats too
};
/// Sources: compressed-tensors (compressors/pack_quantized), AutoGPTQ (nn_modules/qlinear), AutoAWQ
/// (modules/linear/gemm).
const ForeignLayoutRow& foreign_layout_row(ForeignLayout layout);

/// A linear layer as a checkpoint of another program has it: `count` rows from `first_row` on of a stored weight
/// [rows, columns].
struct ForeignPlace {
  std::string module;  ///< "model.layers.0.self_attn.q_proj", as it is stored
  std::int64_t rows;
  std::int64_t columns;
  std::int64_t first_row;
  std::int64_t count;
};

/// In this program's terms.
struct ForeignLinear {
  QuantizedLinear parameters;         ///< scales, zero points, and the codes where they are not in place
  std::optional<TensorView> codes;    ///< U8 [count, row_bytes], where the file has them as docs/checkpoint-format.md
  std::vector<std::int32_t> columns;  ///< [in]: which input a column of the codes multiplies; empty: in order
};

/// The tensor of a name, or nothing.
using TensorFinder = std::function<std::optional<TensorView>(std::string_view name)>;

/// Reads one. With BlockWeights::leave neither codes nor their view. Throws FormatError naming the tensor for a missing
/// one, a type or shape that the scheme does not ask for, codes or zero points out of range, scales that are not
/// finite; UnsupportedError for an order of columns that groups of our kind cannot express.
ForeignLinear read_foreign_linear(const TensorFinder& tensor, const ForeignPlace& place, const ForeignScheme& scheme,
                                  BlockWeights weights);

}  // namespace pq::io
