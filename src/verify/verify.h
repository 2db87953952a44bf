#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "runtime/model.h"
#include "runtime/model_source.h"
#include "verify/comparison.h"

namespace pq::runtime {

struct VerifyReport {
  std::string kernels;
  std::int64_t tokens = 0;
  std::vector<VerifyRow> rows;
  // The whole model against the whole reference, each on its own values: rounding may put values on the other side of a
  // quantizer's step, so this is a distance, not an error.
  double logit_max_error = 0;
  double logit_rms_error = 0;
  double logit_rms = 0;      ///< of the reference's logits
  double kl_divergence = 0;  ///< mean of KL(reference || runtime), in nats
  /// The same for the reference against itself with an embedding moved by control_movement: what values on the other
  /// side of a step cost this model, whoever computes it.
  double control_kl_divergence = 0;
  double top1_agreement = 0;

  bool passed() const;
};

/// Relative movement of the control's embedding: a rounding to binary16, as engines that compute in it do everywhere.
inline constexpr double control_movement = 1.0 / 2048;
/// A mean KL divergence up to this passes, and one up to so many times that of the control.
inline constexpr double small_kl_divergence = 0.001;
inline constexpr double control_factor = 5;

/// Runs `tokens` (inside the vocabulary, at most most_rows) through the model and the reference over the source that it
/// was packed from. `progress` is called after each block.
VerifyReport verify(const Model& model, const ModelSource& source, std::span<const std::int32_t> tokens,
                    const std::function<void()>& progress = {});

}  // namespace pq::runtime
