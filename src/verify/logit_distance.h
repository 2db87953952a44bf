#pragma once

#include <span>

#include "verify/matrix.h"

namespace pq::runtime {

/// The whole model against the whole reference, each on its own values, with the same decisions where rounding may put
/// a value on either side of a quantizer's border.
struct LogitDistance {
  double max_error = 0;
  double rms_error = 0;
  double rms = 0;            ///< of the reference's logits
  double kl_divergence = 0;  ///< mean of KL(reference || runtime), in nats
  /// The same for the reference against itself with an embedding moved by control_movement: what rounding costs
  /// this model, whoever computes it.
  double control_kl_divergence = 0;
  double top1_agreement = 0;
};

/// `logits` [tokens, vocab] of the runtime against `reference` [tokens, vocab], and the control against it.
LogitDistance compare_logits(const Matrix& reference, const Matrix& control, std::span<const float> logits);

}  // namespace pq::runtime
