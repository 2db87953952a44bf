#include "nn/hadamard.h"

#include <bit>
#include <cmath>

#include "base/error.h"
#include "numerics/hadamard.h"

namespace pq::nn {
namespace {

// A factor of at most 2^7 keeps the arithmetic small and the products large enough to run well.
constexpr int max_factor_bits = 7;

at::Tensor orthonormal(const std::vector<std::int8_t>& signs, std::int64_t order, const at::TensorOptions& options) {
  at::Tensor matrix = at::empty({order, order}, at::kDouble);
  double* out = matrix.data_ptr<double>();
  const double scale = 1.0 / std::sqrt(static_cast<double>(order));
  for (std::size_t i = 0; i < signs.size(); ++i) out[i] = signs[i] * scale;
  return matrix.to(options);
}

std::vector<std::int8_t> sylvester(std::uint64_t order) {
  std::vector<std::int8_t> signs;
  signs.reserve(order * order);
  for (std::uint64_t i = 0; i < order; ++i) {
    for (std::uint64_t j = 0; j < order; ++j) signs.push_back(std::popcount(i & j) % 2 == 0 ? 1 : -1);
  }
  return signs;
}

}  // namespace

Hadamard::Hadamard(std::int64_t order, const at::TensorOptions& options) : order_(order) {
  const HadamardPlan plan = plan_hadamard(order);
  if (plan.base > 1) factors_.push_back(orthonormal(hadamard_base(plan.base), plan.base, options));
  int bits_left = std::countr_zero(static_cast<std::uint64_t>(plan.power));
  for (int parts = (bits_left + max_factor_bits - 1) / max_factor_bits; parts > 0; --parts) {
    const int bits = (bits_left + parts - 1) / parts;
    factors_.push_back(orthonormal(sylvester(std::uint64_t{1} << bits), std::int64_t{1} << bits, options));
    bits_left -= bits;
  }
}

at::Tensor Hadamard::apply(const at::Tensor& x) const { return chain(x, false); }

at::Tensor Hadamard::apply_transposed(const at::Tensor& x) const { return chain(x, true); }

at::Tensor Hadamard::chain(const at::Tensor& x, bool transposed) const {
  if (x.size(-1) != order_) {
    throw InputError("Hadamard rotation", fmt::format("a row of {} values does not fit order {}", x.size(-1), order_));
  }
  if (factors_.empty()) return x;
  at::Tensor y = x.to(factors_.front().scalar_type());
  std::int64_t inner = 1;
  for (const at::Tensor& factor : factors_) {
    const std::int64_t n = factor.size(0);
    if (inner == 1) {
      y = at::mm(y.reshape({-1, n}), transposed ? factor.t() : factor);
    } else {
      y = y.reshape({-1, n, inner});
      y = at::bmm((transposed ? factor : factor.t()).unsqueeze(0).expand({y.size(0), n, n}), y);
    }
    inner *= n;
  }
  return y.reshape(x.sizes()).to(x.scalar_type());
}

}  // namespace pq::nn
