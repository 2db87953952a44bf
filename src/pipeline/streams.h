#pragma once

#include <ATen/ATen.h>

#include <string_view>

#include "nn/block.h"
#include "pipeline/calibration.h"
#include "pipeline/transformed_model.h"
#include "tuning/stream_place.h"

namespace pq::quant {

// A stream is a tensor of hidden states [sequences, length, hidden] that goes from block to block.

/// [sequences, length] int64 on `device`.
at::Tensor to_token_tensor(const CalibrationSet& set, const at::Device& device);

/// The embedding of each of the set's tokens, in `place`, one sequence at a time.
at::Tensor embedded_stream(const TransformedModel& model, const CalibrationSet& set, const StreamPlace& place);

/// Takes a stream through a block in place, a few sequences at a time; it may lie on another device than the block.
void propagate(const nn::Block& block, const nn::BlockContext& context, at::Tensor& stream, const nn::Tap& tap = {});

/// Says at --verbose how large a stream in memory is.
void log_stream(std::string_view name, const at::Tensor& stream);

}  // namespace pq::quant
