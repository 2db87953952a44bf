#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "io/hf_checkpoint.h"
#include "nn/block.h"

namespace pq::quant {

/// Whether load_rounded_block() rounds: the processor multiplies bfloat16 (AVX512_BF16, AMX), the linear layers of the
/// checkpoint are bfloat16, and `options` ask for float32 on a CPU.
bool rounds_products(const io::HfCheckpoint& checkpoint, const at::TensorOptions& options);

/// nn::load_block() for a forward pass that only looks at how large activations are: where rounds_products(), linear
/// layers round their inputs to bfloat16 (2^-9 of a value) and multiply them with the checkpoint's weights on the
/// runtime's kernels, sums in float32. Else, and for layers with an odd number of inputs, nn::load_block() itself.
nn::Block load_rounded_block(const io::HfCheckpoint& checkpoint, std::int64_t index, const at::TensorOptions& options);

}  // namespace pq::quant
