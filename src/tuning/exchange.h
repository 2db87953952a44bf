#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "base/communicator.h"
#include "base/json.h"
#include "model/model_spec.h"
#include "model/quantized_block.h"
#include "model/recipe.h"
#include "quant/block_start.h"

namespace pq::quant {

// What the root process sends to all others. Every process calls the same function; with one process nothing happens.

/// A float32 tensor, which has its shape everywhere; on any device.
void broadcast(Communicator& processes, const at::Tensor& tensor);
/// Adds up a floating tensor over all processes, in place.
void sum(Communicator& processes, const at::Tensor& tensor);
double sum(Communicator& processes, double value);
/// Adds up a leaf's gradient over all processes: one that has none, for it had no row of the batch, adds zeros.
void sum_gradient(Communicator& processes, const at::Tensor& leaf);
/// Returns the root's value.
Json broadcast(Communicator& processes, const Json& json);
/// The other processes' `start` holds the block as it was loaded; weights, scales and sites come from the root.
void broadcast(Communicator& processes, BlockStart& start, const ModelSpec& spec, const Recipe& recipe,
               std::int64_t index);
void broadcast(Communicator& processes, QuantizedBlock& block, const ModelSpec& spec, const Recipe& recipe,
               std::int64_t index);

}  // namespace pq::quant
