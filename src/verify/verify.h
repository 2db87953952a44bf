#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "runtime/model.h"
#include "runtime/model_source.h"
#include "verify/comparison.h"
#include "verify/logit_distance.h"

namespace pq::runtime {

struct VerifyReport {
  std::string kernels;
  std::int64_t tokens = 0;
  std::vector<VerifyRow> rows;
  LogitDistance logits;
  std::string overflow;  ///< where float32 overflowed (Comparison::overflow), which is the model's fault; mostly empty

  /// The logits' part of passed().
  bool logits_passed() const;
  bool passed() const;
};

/// Relative movement of the control's embedding: a rounding to binary16, as engines that compute in it do everywhere.
inline constexpr double control_movement = 1.0 / 2048;
/// A mean KL divergence up to this passes, and one up to so many times that of the control. Neither has to allow for
/// codes on the other side of a quantizer's border, which few values stand on and which cost a model much: there the
/// reference, and the control, decide as the runtime did (Decisions), so that what is left moves with the rounding
/// alone.
inline constexpr double small_kl_divergence = 0.001;
inline constexpr double control_factor = 5;

/// Runs `tokens` (inside the vocabulary, at most most_rows) through the model and the reference over the source that it
/// was packed from. `progress` is called after each block.
VerifyReport verify(const Model& model, const ModelSource& source, std::span<const std::int32_t> tokens,
                    const std::function<void()>& progress = {});

}  // namespace pq::runtime
