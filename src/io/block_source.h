#pragma once

#include <memory>

#include "io/safetensors.h"
#include "model/block_layout.h"
#include "model/quantized_block.h"

namespace pq::io {

/// One block as it comes from a file. Sizes agree with the spec and the recipe.
struct BlockSource {
  QuantizedBlock parameters;          ///< norms, biases, scales, sites; no codes or weights
  PerLinear<TensorView> weights;      ///< packed codes (U8), or floating-point
  std::shared_ptr<const void> owner;  ///< of the bytes, where they are in no mapped file
};

}  // namespace pq::io
