#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/kernels.h"
#include "numerics/hadamard.h"

namespace pq::runtime {

/// A rotation that stays online, with its Paley matrix as the kernels want it.
class OnlineRotation {
 public:
  explicit OnlineRotation(std::int64_t order);
  const HadamardPlan& plan() const { return plan_; }
  kernels::Hadamard kernel() const;
  /// Rotates `count` neighbouring vectors [order] in place; `scratch` holds `order` floats.
  void apply(float* vectors, std::int64_t count, const kernels::KernelTable& table, std::byte* scratch) const;

 private:
  HadamardPlan plan_;
  std::vector<float> base_;
};

}  // namespace pq::runtime
