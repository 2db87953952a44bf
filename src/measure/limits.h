#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "kernels/machine_limits.h"

namespace pq::measure {

/// What computes the products of a linear layer.
enum class Products {
  bytes,  ///< 8-bit (or narrower) weights and activations
  wide,   ///< narrow weights, 16-bit activations: two products of bytes each, or one of floats
  floats  ///< 16- or 32-bit weights
};

/// What a run cannot do without.
struct Work {
  Products products = Products::floats;
  double operations = 0;  ///< of linear layers; a multiply-add is two
  bool few_rows = false;  ///< too few rows at once for a matrix unit
  double bytes = 0;       ///< of weights and KV cache, read from memory
};

/// The time that the machine's limits leave no less than.
struct Bound {
  double seconds = 0;
  std::string_view
      limit;  ///< which one it is: "int8 peak", "int8 matrix peak", "bf16 peak", "f32 peak", "read bandwidth"
};
Bound bound_of(const Work& work, const kernels::MachineLimits& limits);

/// Measures the limits again and again through a run, since a machine that others use too has no constant ones.
class LimitLog {
 public:
  explicit LimitLog(const kernels::KernelTable& table);

  /// Measures them now.
  kernels::MachineLimits now();
  /// Medians over all measurements.
  kernels::MachineLimits median() const;
  kernels::MachineLimits best() const;
  std::size_t count() const { return seen_.size(); }

 private:
  kernels::LimitProbe probe_;
  std::vector<kernels::MachineLimits> seen_;
};

/// A member a limit, per second; null where there is none.
Json limits_json(const kernels::MachineLimits& limits);
/// "int8 2071 GOP/s, f32 520 GFLOP/s, reads 47.1 GB/s"
std::string limits_text(const kernels::MachineLimits& limits);

double median_of(std::vector<double> values);

}  // namespace pq::measure
