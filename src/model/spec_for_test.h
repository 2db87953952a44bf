#pragma once

#include <cstdint>

#include "model/model_spec.h"

namespace pq {

/// A model that a test computes in no time, of two blocks; what else a test depends on it sets itself.
inline ModelSpec small_spec(std::int64_t hidden, std::int64_t intermediate, std::int64_t heads, std::int64_t kv_heads,
                            std::int64_t head_dim) {
  ModelSpec spec;
  spec.hidden_size = hidden;
  spec.intermediate_size = intermediate;
  spec.block_count = 2;
  spec.head_count = heads;
  spec.kv_head_count = kv_heads;
  spec.head_dim = head_dim;
  spec.vocab_size = 50;
  spec.max_positions = 2048;
  spec.rms_norm_eps = 1e-5;
  return spec;
}

}  // namespace pq
