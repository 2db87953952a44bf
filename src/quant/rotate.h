#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>

#include "model/recipe.h"
#include "nn/block.h"
#include "nn/hadamard.h"
#include "quant/transform.h"

namespace pq::quant {

/// The rotations of one model (ALGORITHM.md section 4; QuaRot and SpinQuant naming). R1 is diag(signs) H / sqrt(hidden)
/// with signs from the seed where it is fused, H / sqrt(hidden) where it is online; R3 is H / sqrt(head_dim). R2 and R4
/// are H / sqrt(n), behind signs from the seed where the recipe says so: R2's stand in v_proj and o_proj, R4's in
/// up_proj and down_proj, so that nothing is left of them online. What o_proj reads is rotated once more over all its
/// heads (QuaRot's "Hadamard heads", arXiv 2404.00456, section 4), H / sqrt(heads * head_dim). All is fused in float64.
class Rotation : public Transform {
 public:
  Rotation(const ModelSpec& spec, const RotationSettings& settings, std::uint64_t seed, const at::Device& device);

  /// R1 where it is online, R3, R4, and the one over heads.
  SiteTransforms online() const override;
  /// Fuses the weights of norms that only linears read into these (then gamma = 1; with R1), and applies R1, R2, R4
  /// and the one over heads to weights and biases, as far as they are switched on. An online R1 leaves the residual
  /// stream and what writes it alone.
  void transform_block(std::int64_t index, nn::Block& block, SiteTransforms& online) const override;
  /// rows * R1 where that is fused, else unchanged.
  at::Tensor embedding_rows(const at::Tensor& rows) const override;
  /// rows * diag(norm) * R1 where that is fused, else unchanged.
  at::Tensor lm_head_rows(const at::Tensor& rows, const at::Tensor& norm) const override;
  /// Ones with a fused R1, else unchanged.
  at::Tensor final_norm(const at::Tensor& norm) const override;

 private:
  at::Tensor times_r1(const at::Tensor& rows) const;

  ModelSpec spec_;
  RotationSettings settings_;  // with r1 as it is for this model
  at::Tensor signs_;           // [hidden] float64, +-1
  at::Tensor value_signs_;     // [kv_heads, head_dim], or undefined
  at::Tensor product_signs_;   // [intermediate], or undefined
  std::unique_ptr<nn::Hadamard> hidden_;
  std::unique_ptr<nn::Hadamard> head_;
  std::unique_ptr<nn::Hadamard> intermediate_;
  std::unique_ptr<nn::Hadamard> heads_;
};

}  // namespace pq::quant
