#include "kernels/scalar/scalar.h"

namespace pq::kernels::scalar {

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
    .bf16_products = false,
    .split_bf16 = nullptr,
    .planes_rows = 0,
    .int8_peak = int8_peak,
    .int8_matrix_peak = nullptr,
    .f32_peak = f32_peak,
    .bf16_peak = nullptr,
    .bf16_matrix_peak = nullptr,
    .read_memory = read_memory,
};

}  // namespace pq::kernels::scalar
