#include "kernels/avx512/vec.h"
#include "kernels/kernels.h"
#include "kernels/row_scale.h"
#ifdef PQ_MATRIX_TILES
#include "kernels/avx512/matrix_tiles.h"
#endif

namespace pq::kernels::PQ_AVX512_NAMESPACE {
#include "kernels/simd/kernels.inl"
}  // namespace pq::kernels::PQ_AVX512_NAMESPACE
