#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>

#include "model/recipe.h"
#include "nn/block.h"
#include "nn/hadamard.h"

namespace pq::quant {

/// The rotations of one model (ALGORITHM.md section 4; QuaRot and SpinQuant naming). R1 is diag(signs) H / sqrt(hidden)
/// with signs from the seed; R2, R3 and R4 are H / sqrt(n). All is fused in float64.
class Rotation {
 public:
  Rotation(const ModelSpec& spec, const RotationSettings& settings, std::uint64_t seed, const at::Device& device);

  /// Fuses the norms' weights into the linears that read them (then gamma = 1) and applies R1, R2 and R4 to the weights
  /// and biases, as far as they are switched on. `block` may be of any floating dtype; it keeps its dtype.
  void rotate_block(nn::Block& block) const;
  /// Embedding rows [rows, hidden] -> rows * R1.
  at::Tensor rotate_embedding(const at::Tensor& rows) const;
  /// lm_head rows [rows, hidden] -> rows * diag(final_norm) * R1. The final norm is ones afterwards
  /// (final_norm_after()).
  at::Tensor rotate_lm_head(const at::Tensor& rows, const at::Tensor& final_norm) const;
  /// The final norm that goes with rotate_lm_head: ones with R1, else unchanged.
  at::Tensor final_norm_after(const at::Tensor& final_norm) const;

 private:
  at::Tensor times_r1(const at::Tensor& rows) const;

  ModelSpec spec_;
  RotationSettings settings_;
  at::Tensor signs_;  // [hidden] float64, +-1
  std::unique_ptr<nn::Hadamard> hidden_;
  std::unique_ptr<nn::Hadamard> head_;
  std::unique_ptr<nn::Hadamard> intermediate_;
};

}  // namespace pq::quant
