#pragma once

#include <span>
#include <vector>

#include "model/model_spec.h"
#include "numerics/site_transform.h"

namespace pq {

/// QuantizedBlock::key_basis [kv_heads, head_dim, head_dim] as a transform of whole rows of K [kv_heads * head_dim]; no
/// steps where `basis` is empty.
SiteTransform key_basis_transform(const ModelSpec& spec, std::span<const float> basis);

/// [kv_heads, head_dim, head_dim]: what the rows of Q that read a KV head are multiplied with, so that scores stay: the
/// inverse, transposed, in float32. Throws InputError for a matrix that has no inverse.
std::vector<float> query_basis(const ModelSpec& spec, std::span<const float> basis);
/// The same as a transform of whole rows of Q [heads * head_dim].
SiteTransform query_basis_transform(const ModelSpec& spec, std::span<const float> basis);

}  // namespace pq
