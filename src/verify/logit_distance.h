#pragma once

#include <span>

#include "verify/reference.h"
#include "verify/verify.h"

namespace pq::runtime {

/// Fills in the report's end-to-end distances: `logits` [tokens, vocab] of the runtime against `reference` [tokens,
/// vocab], and the control against it.
void compare_logits(const Matrix& reference, const Matrix& control, std::span<const float> logits,
                    VerifyReport& report);

}  // namespace pq::runtime
