#include "quant/transform.h"

namespace pq::quant {

SiteTransforms TransformList::online() const {
  SiteTransforms all;
  for (const auto& transform : transforms_) append(all, transform->online());
  return without_values(all);
}

at::Tensor TransformList::embedding_rows(const at::Tensor& rows) const {
  at::Tensor out = rows;
  for (const auto& transform : transforms_) out = transform->embedding_rows(out);
  return out;
}

void TransformList::transform_block(std::int64_t index, nn::Block& block, SiteTransforms& online) const {
  for (const auto& transform : transforms_) transform->transform_block(index, block, online);
}

at::Tensor TransformList::lm_head_rows(const at::Tensor& rows, const at::Tensor& norm) const {
  at::Tensor out = rows;
  at::Tensor current = norm;
  for (const auto& transform : transforms_) {
    out = transform->lm_head_rows(out, current);
    current = transform->final_norm(current);
  }
  return out;
}

at::Tensor TransformList::final_norm(const at::Tensor& norm) const {
  at::Tensor out = norm;
  for (const auto& transform : transforms_) out = transform->final_norm(out);
  return out;
}

}  // namespace pq::quant
