#include "model/key_basis.h"

#include <utility>
#include <variant>

namespace pq {

SiteTransform key_basis_transform(const ModelSpec& spec, std::span<const float> basis) {
  if (basis.empty()) return {};
  return {{BlockDiagonalStep{spec.head_dim, spec.kv_head_count, {basis.begin(), basis.end()}}}};
}

std::vector<float> query_basis(const ModelSpec& spec, std::span<const float> basis) {
  if (basis.empty()) return {};
  SiteTransform inverse = inverse_transposed(key_basis_transform(spec, basis));
  return std::move(std::get<BlockDiagonalStep>(inverse.steps.front()).matrices);
}

SiteTransform query_basis_transform(const ModelSpec& spec, std::span<const float> basis) {
  if (basis.empty()) return {};
  const std::vector<float> of_groups = query_basis(spec, basis);
  BlockDiagonalStep step{spec.head_dim, spec.head_count, {}};
  const std::size_t size = of_groups.size() / static_cast<std::size_t>(spec.kv_head_count);
  for (std::int64_t head = 0; head < spec.head_count; ++head) {
    const auto group = static_cast<std::size_t>(head / (spec.head_count / spec.kv_head_count));
    const auto first = of_groups.begin() + static_cast<std::ptrdiff_t>(group * size);
    step.matrices.insert(step.matrices.end(), first, first + static_cast<std::ptrdiff_t>(size));
  }
  return {{std::move(step)}};
}

}  // namespace pq
