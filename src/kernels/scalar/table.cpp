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
    .swiglu = swiglu,
    .softmax = softmax,
    .add = add,
    .f16_to_float = f16_to_float,
    .bf16_to_float = bf16_to_float,
};

}  // namespace pq::kernels::scalar
