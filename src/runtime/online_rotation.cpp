#include "runtime/online_rotation.h"

#include <cmath>

namespace pq::runtime {

OnlineRotation::OnlineRotation(std::int64_t order) : plan_(plan_hadamard(order)) {
  if (plan_.base == 1) return;
  const std::vector<std::int8_t> base = hadamard_base(plan_.base);
  base_.assign(base.begin(), base.end());
}

kernels::Hadamard OnlineRotation::kernel() const {
  return {plan_.order,
          plan_.blocks,
          plan_.base,
          plan_.power,
          base_.empty() ? nullptr : base_.data(),
          static_cast<float>(1.0 / std::sqrt(static_cast<double>(plan_.block_order())))};
}

void OnlineRotation::apply(float* vectors, std::int64_t count, const kernels::KernelTable& table,
                           std::byte* scratch) const {
  const kernels::Hadamard plan = kernel();
  for (std::int64_t i = 0; i < count; ++i) {
    table.hadamard(vectors + i * plan.order, plan, reinterpret_cast<float*>(scratch));
  }
}

}  // namespace pq::runtime
