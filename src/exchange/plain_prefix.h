#pragma once

#include <cstdint>
#include <vector>

#include "io/quantized_checkpoint.h"
#include "model/quantized_block.h"

namespace pq::exchange {

/// The basis in which V stands.
enum class ValueBasis {
  checkpoint,  ///< as v_proj of the checkpoint gives it, R2 fused: what an export of the checkpoint computes, too
  model,       ///< of the model that was quantized, R2 undone: for weights that others made of it
};

/// K and V of one block's prefix in float64, [kv_heads, length, head_dim].
struct PlainKv {
  std::vector<double> key;
  std::vector<double> value;
};

/// A block's prefix as a program without online transforms has it: K after RoPE and nothing else (the mean that was
/// taken out is added again, what is done online at k_cache is undone), V in the basis asked for. `parameters` is the
/// block (its transforms, key_basis and key_mean are read). Throws InputError for a transform that has no inverse.
PlainKv plain_prefix(const Prefix::BlockKv& kv, const QuantizedBlock& parameters, const ModelSpec& spec,
                     const Recipe& recipe, std::int64_t length, ValueBasis basis);

/// All blocks, rounded to binary16 once.
Prefix plain_prefix(const io::QuantizedCheckpoint& checkpoint, ValueBasis basis);

}  // namespace pq::exchange
