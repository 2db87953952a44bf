#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "model/recipe.h"
#include "model/site_transform.h"
#include "nn/block.h"

namespace pq::quant {

/// A change of a model's parameters that leaves its function as it is. Tensors keep their dtype; the arithmetic is
/// float64.
class Transform {
 public:
  Transform() = default;
  virtual ~Transform() = default;
  Transform(const Transform&) = delete;
  Transform& operator=(const Transform&) = delete;

  /// Steps and sizes of what it leaves online in every block; values need not be filled.
  virtual SiteTransforms online() const { return {}; }
  /// Embedding rows [rows, hidden].
  virtual at::Tensor embedding_rows(const at::Tensor& rows) const { return rows; }
  /// Block `index`, as the transforms before this one left it; `online` is what they left online there, and what this
  /// one leaves is put behind it.
  virtual void transform_block(std::int64_t index, nn::Block& block, SiteTransforms& online) const = 0;
  /// lm_head rows [rows, hidden], which read the output of a final norm [hidden]; the norm goes with final_norm().
  virtual at::Tensor lm_head_rows(const at::Tensor& rows, const at::Tensor& /*norm*/) const { return rows; }
  virtual at::Tensor final_norm(const at::Tensor& norm) const { return norm; }
};

/// Transforms in the order in which they are applied. It is used as one.
class TransformList : public Transform {
 public:
  explicit TransformList(std::vector<std::unique_ptr<Transform>> transforms) : transforms_(std::move(transforms)) {}

  SiteTransforms online() const override;
  at::Tensor embedding_rows(const at::Tensor& rows) const override;
  void transform_block(std::int64_t index, nn::Block& block, SiteTransforms& online) const override;
  at::Tensor lm_head_rows(const at::Tensor& rows, const at::Tensor& norm) const override;
  at::Tensor final_norm(const at::Tensor& norm) const override;

 private:
  std::vector<std::unique_ptr<Transform>> transforms_;
};

}  // namespace pq::quant
