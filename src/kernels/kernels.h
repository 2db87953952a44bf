#pragma once

#include <cstddef>
#include <cstdint>

// What the runtime computes with: plain arguments, no allocation, no exceptions, no errors. Every precondition is
// checked by the caller (src/runtime), once, when it packs a model. A table of these functions exists for every
// instruction set that the build knows; the scalar one is the definition.

namespace pq::kernels {

/// Output channels of a panel: weights are packed in panels of 16 channels, so that one vector of 32-bit sums is 16
/// channels of one row.
inline constexpr std::int64_t panel_channels = 16;
/// Columns are padded to a multiple of this, with activation codes of 0.
inline constexpr std::int64_t column_block = 32;
/// Largest magnitude of a 16-bit activation code: its upper byte fits in an int8 whatever its lower byte is.
inline constexpr std::int32_t wide_code_max = 127 * 256;

/// Integer weights of a linear layer (or the K or V of a KV cache), packed: weight = (code - zero) * scale.
///
/// A panel holds column blocks one after the other; a block is 16 channels x 32 columns = `bits` lines of 64 bytes.
/// In a line, byte 4 * channel + i belongs to column i of a quad (4 neighbouring columns):
///   8 bits: line q holds quad q.
///   4 bits: line j holds quad 2j in the lower nibbles, quad 2j + 1 in the upper ones.
///   2 bits: line j holds quads 4j .. 4j + 3, two bits each, the lowest first.
///   3 bits: lines 0 and 1 hold the lower two bits as 2-bit weights do, bit q of line 2's bytes is the third bit of
///   quad
///           q.
///
/// Two-level weights (numerics/two_level.h) are 4-bit codes with a byte for every group of columns of a channel: the
/// group's scale minus 1 in the lower nibble, its zero point in the upper one. A kernel unpacks a code to the byte
/// (code - zero point) * group scale + 128, and goes on with it as with an 8-bit code whose zero is 128 = common_zero.
struct IntWeights {
  const std::uint8_t* codes;  ///< [panels] at a distance of panel_bytes, aligned to 64 bytes
  const float* scale;         ///< [panels][segments][16]
  const std::int32_t* zero;   ///< [panels][segments][16], or nullptr: common_zero everywhere (nothing to read)
  std::int32_t common_zero;
  const std::int32_t* sum;  ///< [panels][segments][16]: sum over the segment's columns of code - zero
  const float* bias;        ///< [panels * 16], or nullptr
  std::int64_t channels;    ///< real ones; the last panel is filled up with weights of zero
  std::int64_t panels;
  std::int64_t panel_bytes;
  std::int64_t columns;  ///< padded, a multiple of column_block
  std::int64_t segment;  ///< columns that share one scale, a multiple of column_block; `columns` for per-channel scales
  std::int64_t segments;  ///< ceil(columns / segment)
  int bits;               ///< 2, 3, 4 or 8
  /// Of two-level weights: [panels] at a distance of group_bytes, in a panel [groups][16]. nullptr: no such weights.
  const std::uint8_t* group_scales = nullptr;
  std::int64_t group = 0;        ///< columns in a group, a multiple of column_block
  std::int64_t group_bytes = 0;  ///< a multiple of 64
};

/// Bytes of the codes of a panel of `columns` (padded) columns.
inline constexpr std::int64_t panel_bytes(std::int64_t columns, int bits) { return columns * bits * 2; }

/// Quantized activations: x = (code - zero) * scale. Codes are int8. With two planes a code is 16 bits wide,
/// 256 * plane 1 + plane 0, both signed; that is how weight-only layers, Q and the attention probabilities keep their
/// 16 bits. Bytes between `columns` and the padded columns are 0.
struct IntActivations {
  const std::int8_t* codes;  ///< [planes][plane_stride], in a plane [rows][row_stride]; rows 64-byte aligned
  const float* scale;        ///< [rows][segments]
  const std::int32_t* zero;  ///< [rows][segments]; nullptr: 0 everywhere
  const std::int32_t* sum;   ///< [rows][segments]: sum of the segment's codes
  std::int64_t rows;
  std::int64_t row_stride;    ///< bytes
  std::int64_t plane_stride;  ///< bytes
  int planes;                 ///< 1 or 2
};

enum class Store { overwrite, add };
/// What gates `up`: numerics/activation.h.
enum class Gate { silu, gelu_tanh };

/// out[m][n] (+)= bias[n] + sum over segments g of
///   scale_a[m][g] * scale_w[n][g] * float(acc[m][n][g] - zero_w[n][g] * sum_a[m][g] - zero_a[m][g] * sum_w[n][g])
/// with acc the exact 32-bit sum of code_a * code_w over the segment (two's complement; the caller guarantees that the
/// difference fits). With `up`: out = gate(result of weights) * (result of up), where `up` has the same shape.
struct IntGemm {
  IntWeights weights;
  const IntWeights* up;  ///< nullptr: a plain product
  IntActivations activations;
  float* out;  ///< [rows][out_stride]; only real channels are written
  std::int64_t out_stride;
  Store store;
  Gate gate = Gate::silu;
};

enum class FloatFormat { f32, f16, bf16 };
inline constexpr std::int64_t bytes_of(FloatFormat format) { return format == FloatFormat::f32 ? 4 : 2; }

/// Floating-point weights, packed in panels of 16 channels: [panels][columns][16] for f32 and f16; for bf16 pairs of
/// columns are interleaved, [panels][columns / 2][16][2], columns padded to an even number.
struct FloatWeights {
  const void* values;  ///< aligned to 64 bytes
  const float* bias;   ///< [panels * 16], or nullptr
  std::int64_t channels;
  std::int64_t panels;
  std::int64_t columns;  ///< padded: a multiple of 2
  FloatFormat format;
};

/// bf16 planes that hold a float32 exactly: its upper 8 binary digits, the next 8, the last 8. Rows lie in tiles of 32
/// rows x 32 columns, [ceil(rows / 32)][columns / 32][float_planes][32][32], as the matrix unit reads them.
inline constexpr int float_planes = 3;
inline constexpr std::int64_t plane_tile_rows = 32;
inline constexpr std::int64_t plane_tile_values = plane_tile_rows * 32;
/// Where a row's values begin, in tiles that begin at 0.
inline constexpr std::int64_t plane_tile_offset(std::int64_t row, std::int64_t columns) {
  return row / plane_tile_rows * plane_tile_rows * columns * float_planes + row % plane_tile_rows * 32;
}

/// out[m][n] (+)= bias[n] + sum over k of a[m][k] * w[n][k], in float32 (any order of additions); `up` as in IntGemm. A
/// table with bf16 products may use `rounded` instead of `activations` for bf16 weights, where it is given with one
/// plane. One with a matrix unit may use three planes for bf16 and f16 weights: the result is a float32 product
/// still, for what is left out of it (the last digits of both) is below 2^-23 of every term.
struct FloatGemm {
  FloatWeights weights;
  const FloatWeights* up;
  const float* activations;  ///< [rows][row_stride]; columns up to weights.columns are readable, padding is 0
  std::int64_t rows;
  std::int64_t row_stride;  ///< floats
  /// The same in bf16: [rows][rounded_stride], or tiles of planes. nullptr: compute in float32.
  const std::uint16_t* rounded;
  std::int64_t rounded_stride;  ///< bf16 numbers
  float* out;
  std::int64_t out_stride;
  Store store;
  Gate gate = Gate::silu;
  int planes = 1;  ///< of `rounded`: 1 or float_planes
};

/// How a row of activations becomes codes.
enum class ScaleKind {
  fixed,    ///< `scale` and `zero` as given (static quantization)
  row,      ///< one scale a row, from its minimum and maximum (dynamic)
  segment,  ///< one scale a segment of a row (dynamic)
};

/// ALGORITHM.md section 5, numerics/quantize.h. Codes are stored as int8: asymmetric ones minus 2^(bits - 1), with the
/// zero point lowered by the same. planes = 2: symmetric 16-bit codes, scale = max|x| / wide_code_max, bits is ignored.
struct QuantizeRow {
  ScaleKind kind;
  int planes;
  int bits;  ///< 2..8
  bool symmetric;
  float scale;           ///< fixed
  std::int32_t zero;     ///< fixed: the zero point as the checkpoint has it (not lowered)
  float gamma;           ///< clip factor of the maximum (dynamic)
  float beta;            ///< clip factor of the minimum (dynamic, asymmetric)
  std::int64_t columns;  ///< real ones
  std::int64_t padded;   ///< codes written: a multiple of column_block
  std::int64_t segment;  ///< of the weights that read the row
  std::int64_t segments;
};

/// Where one row's codes go.
struct QuantizedRow {
  std::int8_t* codes;         ///< plane 0, [padded]
  std::int64_t plane_stride;  ///< plane 1 lies this many bytes further
  float* scale;               ///< [segments]
  std::int32_t* zero;         ///< [segments]
  std::int32_t* sum;          ///< [segments]
};

/// The rotation of numerics/hadamard.h as a kernel sees it: row [blocks][power][base].
struct Hadamard {
  std::int64_t order;
  std::int64_t blocks;
  std::int64_t base;
  std::int64_t power;
  const float* base_matrix;  ///< [base][base], entries +1 and -1 (row-major, y = x * H); nullptr when base is 1
  float scale;               ///< 1 / sqrt(base * power)
};

/// How a KV cache keeps K and V.
enum class KvFormat { int4, int8, f16, f32 };

/// K and V of one KV head in one layer: the 16-bit prefix and the body. Body blocks are of 32 tokens.
///
/// Integer formats. K: for every 16 tokens one panel (tokens are its channels, head_dim its columns, padded to 32), as
/// in IntWeights with 4 or 8 bits. V: for every 32 tokens, for every 16 dimensions of the head, one column block of
/// IntWeights (dimensions are its channels, tokens its columns).
/// f16 and f32. K: for every 16 tokens [head_dim][16]. V: [token][padded_dim].
struct KvHead {
  const float* prefix_key;    ///< [prefix][padded_dim]
  const float* prefix_value;  ///< [prefix][padded_dim]
  const std::uint8_t* key;
  const std::uint8_t* value;
  /// Scales (integer formats). Static: [1]. Dynamic: [token][groups].
  const float* key_scale;
  const std::int32_t* key_zero;  ///< what to subtract from a stored code
  const float* value_scale;
  const std::int32_t* value_zero;
};

struct KvLayout {
  KvFormat format;
  bool dynamic_scales;
  std::int64_t head_dim;
  std::int64_t padded_dim;  ///< a multiple of 32
  std::int64_t group;       ///< channels of the head that share a scale (a multiple of 32, or padded_dim)
  std::int64_t groups;      ///< ceil(head_dim / group)
};

/// Attention of `queries` neighbouring tokens of one sequence, for the query heads that share one KV head. Query i
/// stands at body position first + i; it sees the whole prefix and the body tokens max(0, first + i - window + 1) ..
/// first + i (window 0: from 0).
struct Attention {
  KvLayout layout;
  KvHead head;
  std::int64_t prefix;  ///< tokens
  const float* query;   ///< [queries][query_stride]: `group_heads` heads of head_dim each
  std::int64_t query_stride;
  float* out;  ///< [queries][out_stride], as query
  std::int64_t out_stride;
  std::int64_t queries;
  std::int64_t group_heads;
  std::int64_t first;
  std::int64_t window;
  float scale;  ///< what scores are multiplied by
};

struct KernelTable {
  const char* name;  ///< as cmake/Isa.cmake has it: "scalar", "avx2", "avx512", "amx", "neon", ..
  /// Panels [first_panel, last_panel) of the product. `scratch` has gemm_scratch_bytes(columns) bytes, 64-byte aligned.
  void (*int_gemm)(const IntGemm& gemm, std::int64_t first_panel, std::int64_t last_panel, void* scratch) noexcept;
  void (*float_gemm)(const FloatGemm& gemm, std::int64_t first_panel, std::int64_t last_panel, void* scratch) noexcept;
  /// `scratch` has attention_scratch_bytes(layout, queries * group_heads) bytes.
  void (*attend)(const Attention& attention, void* scratch) noexcept;

  /// out = x * rsqrt(mean(x^2) + eps) * gamma, [n].
  void (*rms_norm)(const float* x, const float* gamma, float eps, std::int64_t n, float* out) noexcept;
  /// The codes of rms_norm's output without storing it; `scratch` holds spec.padded floats.
  void (*norm_quantize)(const float* x, const float* gamma, float eps, const QuantizeRow& spec, const QuantizedRow& out,
                        float* scratch) noexcept;
  void (*quantize_row)(const float* x, const QuantizeRow& spec, const QuantizedRow& out) noexcept;
  /// Smallest and largest of x[n] (n >= 1).
  void (*min_max)(const float* x, std::int64_t n, float* min, float* max) noexcept;
  /// Rotates the first `width` channels of `heads` heads of head_dim in place; cos and sin [width / 2] of this position
  /// (halves, not neighbours, are paired: Hugging Face's rotate_half).
  void (*rope)(float* x, std::int64_t heads, std::int64_t head_dim, std::int64_t width, const float* cos,
               const float* sin) noexcept;
  /// row <- row * H / sqrt(n'), [plan.order]; `scratch` holds plan.order floats.
  void (*hadamard)(float* row, const Hadamard& plan, float* scratch) noexcept;
  /// `count` neighbouring rows [n] <- row * matrix [n, n]; `scratch` holds min(count, 4) * n floats.
  void (*multiply_rows)(float* rows, std::int64_t count, std::int64_t n, const float* matrix, float* scratch) noexcept;
  void (*f16_to_float)(const std::uint16_t* x, std::int64_t n, float* out) noexcept;
  void (*bf16_to_float)(const std::uint16_t* x, std::int64_t n, float* out) noexcept;
  /// To the nearest, ties to even; NaN stays NaN.
  void (*float_to_bf16)(const float* x, std::int64_t n, std::uint16_t* out) noexcept;
  bool bf16_products;  ///< float_gemm uses FloatGemm::rounded
  /// A row x [n], n a multiple of 32, as planes whose sum is x, bit for bit where x is finite; `out` is where the row
  /// begins in its tiles, aligned to 64 bytes. nullptr: float_gemm has no use for them.
  void (*split_bf16)(const float* x, std::int64_t n, std::uint16_t* out) noexcept;
  std::int64_t planes_rows;  ///< rows from which on it has

  // What the processor can do at best with these instructions (machine_limits.h). Each returns the operations done: a
  // multiply-add is two.
  double (*int8_peak)(std::int64_t rounds) noexcept;         ///< products of bytes in registers, as in int_gemm
  double (*int8_matrix_peak)(std::int64_t rounds) noexcept;  ///< the same on a matrix unit; nullptr where there is none
  double (*f32_peak)(std::int64_t rounds) noexcept;          ///< multiply-adds of float32
  double (*bf16_peak)(std::int64_t rounds) noexcept;         ///< products of bf16; nullptr without bf16_products
  double (*bf16_matrix_peak)(std::int64_t rounds) noexcept;  ///< the same on a matrix unit; nullptr where there is none
  /// Reads all of it, in whole blocks of 256 bytes; aligned to 64.
  void (*read_memory)(const void* memory, std::int64_t bytes) noexcept;
};

/// For int_gemm and float_gemm: four unpacked panels, twice.
inline constexpr std::size_t gemm_scratch_bytes(std::int64_t columns) {
  return static_cast<std::size_t>(columns) * 128 * sizeof(float);
}
/// For attend, with rows = queries * group_heads.
inline constexpr std::size_t attention_scratch_bytes(const KvLayout& layout, std::int64_t rows) {
  const auto padded = static_cast<std::size_t>(rows + 8);
  const auto dim = static_cast<std::size_t>(layout.padded_dim);
  return padded * (dim * 16 + 256 * 8 + 8 * static_cast<std::size_t>(layout.groups + 16)) + dim * 256 * 8 + 65536;
}

}  // namespace pq::kernels
