#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/kernels.h"
#include "numerics/hadamard.h"
#include "numerics/site_transform.h"

namespace pq::runtime {

/// What a site does to its rows before they are quantized (numerics/site_transform.h), in float32 on the kernels.
/// Copies share one definition.
class OnlineTransform {
 public:
  /// No steps: apply() does nothing.
  OnlineTransform() = default;
  /// For rows of `size` values. Throws InputError as check_transform.
  OnlineTransform(const SiteTransform& transform, std::int64_t size);

  bool empty() const { return parts_ == nullptr; }
  /// Transforms `count` neighbouring vectors [size] in place; `scratch` holds `size` floats, aligned to 64 bytes.
  void apply(float* vectors, std::int64_t count, const kernels::KernelTable& table, std::byte* scratch) const;

  const SiteTransform& definition() const;
  std::int64_t size() const { return parts_ == nullptr ? 0 : parts_->size; }

 private:
  /// A Hadamard step as the kernels want it.
  struct Rotation {
    HadamardPlan plan;
    std::vector<float> base;
    kernels::Hadamard kernel() const;
  };
  struct Parts {
    SiteTransform transform;
    std::int64_t size;
    std::vector<Rotation> rotations;  // one a step; unused for others
  };

  std::shared_ptr<const Parts> parts_;
};

}  // namespace pq::runtime
