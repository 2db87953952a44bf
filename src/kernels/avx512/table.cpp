#include "kernels/avx512/vec.h"
#include "kernels/kernels.h"
#include "kernels/row_scale.h"

namespace pq::kernels::avx512 {
#include "kernels/simd/kernels.inl"
}  // namespace pq::kernels::avx512
