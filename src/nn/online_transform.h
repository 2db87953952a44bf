#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <variant>
#include <vector>

#include "model/site_transform.h"
#include "nn/hadamard.h"
#include "numerics/site_transform.h"

namespace pq::nn {

/// A site's transform (numerics/site_transform.h) over the last dimension.
class OnlineTransform {
 public:
  /// No steps: apply() gives its argument.
  OnlineTransform() = default;
  /// For rows of `size` values; `options` gives the dtype and device that it works in. Throws InputError as
  /// check_transform.
  OnlineTransform(const SiteTransform& transform, std::int64_t size, const at::TensorOptions& options);

  bool empty() const { return steps_.empty(); }
  /// x [.., size] -> x T, in x's dtype. Throws InputError for rows of another size.
  at::Tensor apply(const at::Tensor& x) const;
  /// Weights [.., size] of a linear layer that reads what T makes of its input -> W T^-T (transform_weights). Throws
  /// InputError for a matrix that has no inverse.
  at::Tensor transform_weights(const at::Tensor& weights) const;

 private:
  struct Gather {
    at::Tensor source;  // [size] int64
  };
  struct Multiply {
    at::Tensor factors;  // [size]
  };
  struct BlockDiagonal {
    at::Tensor matrices;  // [blocks or 1, block, block]
  };
  struct Kronecker {
    at::Tensor left;
    at::Tensor right;
  };
  using Step = std::variant<Gather, Multiply, Hadamard, BlockDiagonal, Kronecker>;

  static at::Tensor apply(const Step& step, const at::Tensor& x);
  static Step inverse_transposed(const Step& step);
  void require_rows(const at::Tensor& x) const;

  std::int64_t size_ = 0;
  at::ScalarType dtype_ = at::kFloat;
  std::vector<Step> steps_;
};

/// What stays online in one block.
struct BlockTransforms {
  BlockTransforms() = default;
  /// Throws InputError as check_site_transforms and OnlineTransform.
  BlockTransforms(const SiteTransforms& transforms, const ModelSpec& spec, const at::TensorOptions& options);

  PerSite<OnlineTransform> sites;
  OnlineTransform query;  // of each head of Q: the inverse, transposed, of k_cache's
};

}  // namespace pq::nn
