#pragma once

#include <ATen/ATen.h>

namespace pq::quant {

/// For each KV head the matrix T, [kv_heads, head_dim, head_dim] in float32, with which K is multiplied and the Q that
/// read it with T^-T, such that both have the same covariance, alike in all channels: T = S U D^(1/4) H /
/// sqrt(head_dim), where S is the inverse square root of K's covariance C_K and U D U^T = S^-1 C_Q S^-1. A rounding
/// error of K that is the same in all channels then leaves (tr (C_K C_Q)^(1/2))^2 in the scores, the least that any T
/// can, where a rotation alone leaves tr C_K tr C_Q (both over head_dim, times the error's share of the energy). `k`
/// [batch, tokens, kv_heads, head_dim] without its mean where that is taken out, `q` [batch, tokens, heads, head_dim].
/// Directions with less than a thousandth of the mean energy are taken to have that; a head without any, or with values
/// that are not finite, keeps its basis.
at::Tensor balanced_basis(const at::Tensor& k, const at::Tensor& q);

}  // namespace pq::quant
