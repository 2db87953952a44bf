#include "kernels/avx2/vec.h"
#include "kernels/kernels.h"
#include "kernels/row_scale.h"

namespace pq::kernels::PQ_AVX2_NAMESPACE {
#include "kernels/simd/kernels.inl"
}  // namespace pq::kernels::PQ_AVX2_NAMESPACE
