#include "quant/key_basis.h"

#include <cmath>
#include <tuple>

#include "nn/hadamard.h"

namespace pq::quant {
namespace {

constexpr double least_share = 1e-3;

/// Mean of x^T x over rows x [.., dim] in float64, with a share of its mean eigenvalue on the diagonal.
at::Tensor second_moment(const at::Tensor& rows) {
  const at::Tensor x = rows.reshape({-1, rows.size(-1)}).to(at::kDouble);
  const at::Tensor moment = at::mm(x.t(), x) / static_cast<double>(x.size(0));
  const at::Tensor floor = least_share * moment.diagonal().mean();
  return moment + floor * at::eye(moment.size(0), moment.options());
}

bool usable(const at::Tensor& moment) {
  const double trace = moment.trace().item<double>();
  return trace > 0 && std::isfinite(trace);
}

}  // namespace

at::Tensor balanced_basis(const at::Tensor& k, const at::Tensor& q) {
  const std::int64_t kv_heads = k.size(2);
  const std::int64_t dim = k.size(3);
  const std::int64_t group = q.size(2) / kv_heads;
  const nn::Hadamard spread(dim, k.options().dtype(at::kDouble));
  at::Tensor bases = at::eye(dim, k.options().dtype(at::kFloat)).expand({kv_heads, dim, dim}).contiguous();
  for (std::int64_t head = 0; head < kv_heads; ++head) {
    const at::Tensor of_k = second_moment(k.select(2, head));
    const at::Tensor of_q = second_moment(q.narrow(2, head * group, group));
    if (!usable(of_k) || !usable(of_q)) continue;
    const auto [energies, directions] = at::linalg_eigh(of_k);
    const at::Tensor lengths = energies.sqrt();
    const at::Tensor root = at::mm(directions * lengths, directions.t());
    const at::Tensor inverse_root = at::mm(directions / lengths, directions.t());
    const auto [both, shared] = at::linalg_eigh(at::mm(root, at::mm(of_q, root)));
    const at::Tensor balanced = at::mm(inverse_root, shared * both.clamp_min(0).pow(0.25));
    bases[head].copy_(spread.apply(balanced));
  }
  return bases;
}

}  // namespace pq::quant
