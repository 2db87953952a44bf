#pragma once

#include <cstdint>

#include "runtime/model_parts.h"
#include "runtime/sequence.h"
#include "runtime/workspace.h"

namespace pq::runtime {

/// The new tokens' Q, K and V as the projections gave them; out: what o_proj reads.
struct AttentionRows {
  Rows query;  ///< [rows, heads * head_dim], rotated in place
  Rows key;    ///< [rows, kv_heads * head_dim], rotated in place
  Rows value;  ///< [rows, kv_heads * head_dim]
  Rows out;    ///< [rows, heads * head_dim]
};

/// Attention of one block: RoPE and transforms, K and V into the sequences' caches behind what they hold, then every
/// token over the prefix and its own sequence.
void attend(const ModelParts& parts, std::int64_t block, const Batch& batch, const AttentionRows& rows,
            Scratch& scratch);

}  // namespace pq::runtime
