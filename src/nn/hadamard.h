#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

namespace pq::nn {

/// x -> x * (H / sqrt(n)) over the last dimension, H the Hadamard matrix that numerics/hadamard.h defines for order n
/// (block-diagonal where no construction is known). As a short chain of small matrix products, never n x n.
class Hadamard {
 public:
  /// `options` gives the dtype and device the operator works in.
  Hadamard(std::int64_t order, const at::TensorOptions& options);
  std::int64_t order() const { return order_; }
  /// x [.., order] -> x * H/sqrt(n).
  at::Tensor apply(const at::Tensor& x) const;
  /// x [.., order] -> x * (H/sqrt(n))^T.
  at::Tensor apply_transposed(const at::Tensor& x) const;

 private:
  at::Tensor chain(const at::Tensor& x, bool transposed) const;

  std::int64_t order_ = 0;
  // Small orthonormal matrices; their Kronecker product, the last one leftmost, is H/sqrt(n) of one diagonal block.
  std::vector<at::Tensor> factors_;
};

}  // namespace pq::nn
