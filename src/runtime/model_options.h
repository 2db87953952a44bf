#pragma once

#include <cstdint>

namespace pq::runtime {

/// Choices at load that the checkpoint leaves open.
struct ModelOptions {
  int lm_head_bits =
      16;           ///< 16: lm_head and embedding as the checkpoint has them; 8: int8 per channel (vocabulary entry)
  int kv_bits = 0;  ///< 0: as the recipe says (16 without one); 16 or 32: binary16 or float32 instead
  /// Multiply BF16 weights with activations rounded to bfloat16 where the processor has such products and several
  /// tokens go through the layers at once, as BF16 engines do; else in float32.
  bool bf16_products = false;
  /// Attention in float32 over the values that the KV codes stand for, instead of 16-bit integer codes of Q and of the
  /// probabilities over the packed cache: slower, for comparing with a float32 reference.
  bool float_attention = false;
  /// Tokens that an unquantized model is to be used with, where its rotary embedding depends on them; 0: its own.
  std::int64_t context = 0;
};

}  // namespace pq::runtime
