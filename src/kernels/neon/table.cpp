#include "kernels/neon/vec.h"

#include "kernels/kernels.h"
#include "kernels/row_scale.h"

namespace pq::kernels::neon {
#include "kernels/simd/kernels.inl"
}  // namespace pq::kernels::neon
