// Every kernel on the vocabulary of vec.h, and their table. Included inside the namespace of one instruction set, in
// one source file each, compiled with that instruction set's flags: everything here is in that namespace or local, so
// that the linker never takes a copy made for one processor into the code of another.

namespace {
// In the order in which they use each other.
#include "kernels/simd/exp.inl"

#include "kernels/simd/rows.inl"

#include "kernels/simd/quantize.inl"

#include "kernels/simd/hadamard.inl"

#include "kernels/simd/tiles.inl"

#include "kernels/simd/unpack.inl"

#include "kernels/simd/int_gemm.inl"

#include "kernels/simd/float_gemm.inl"

#include "kernels/simd/attention.inl"

#include "kernels/simd/peak.inl"

#ifdef PQ_BF16_DOT
inline constexpr bool bf16_products_in_table = true;
#else
inline constexpr bool bf16_products_in_table = false;
#endif
#ifdef PQ_MATRIX_TILES
inline constexpr auto split_in_table = split_bf16;
inline constexpr std::int64_t planes_rows_in_table = matrix_rows;
#else
inline constexpr decltype(KernelTable::split_bf16) split_in_table = nullptr;
inline constexpr std::int64_t planes_rows_in_table = 0;
#endif
}  // namespace

extern const KernelTable table;

const KernelTable table{
    .name = PQ_ISA_NAME,
    .int_gemm = int_gemm,
    .float_gemm = float_gemm,
    .attend = attend,
    .rms_norm = rms_norm,
    .norm_quantize = norm_quantize,
    .quantize_row = quantize_row,
    .min_max = min_max,
    .rope = rope,
    .hadamard = hadamard,
    .multiply_rows = multiply_rows,
    .f16_to_float = f16_to_float,
    .bf16_to_float = bf16_to_float,
    .float_to_bf16 = float_to_bf16,
    .bf16_products = bf16_products_in_table,
    .split_bf16 = split_in_table,
    .planes_rows = planes_rows_in_table,
    .int8_peak = int8_peak,
    .int8_matrix_peak = int8_matrix_peak,
    .f32_peak = f32_peak,
    .bf16_peak = bf16_peak,
    .bf16_matrix_peak = bf16_matrix_peak,
    .read_memory = read_memory,
};
