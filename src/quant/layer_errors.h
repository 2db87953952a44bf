#pragma once

#include <ATen/ATen.h>

#include "base/json.h"
#include "model/block_layout.h"
#include "nn/block.h"

namespace pq::quant {

/// Which parts of a block are quantized while the rest of it is whole.
struct QuantizedParts {
  PerLinear<bool> weights{};
  PerLinear<bool> inputs{};  ///< what it reads, although others read the same tensor whole
  bool caches = false;       ///< K and V

  /// A linear layer alone: its weights and what it reads.
  static QuantizedParts only(LinearId linear);
};

/// The whole block with these parts taken from the quantized one: `rounded` and its quantizers, `tap` (may be empty).
/// x [sequences, tokens, hidden] -> the same shape.
at::Tensor forward_with(const nn::Block& whole, const nn::Block& rounded, const nn::Tap& tap,
                        const QuantizedParts& parts, const nn::BlockContext& context, const at::Tensor& x);

/// What quantizing one linear layer alone costs on some input rows. y = W x is what it gives, y' = W' x' what it gives
/// quantized; squares are summed over rows and channels.
struct LinearError {
  double output = 0;      ///< ||y' - y||^2 / ||y||^2
  double weights = 0;     ///< ||W' x' - W x'||^2 / ||y||^2: the part of the weights
  double inputs = 0;      ///< ||W x' - y||^2 / ||y||^2: the part of what it reads
  double propagated = 0;  ///< of the block's output, this layer alone quantized: token_error()
};

struct LayerErrors {
  PerLinear<LinearError> linears;
  double block = 0;             ///< the block's output, all of it quantized: squared error over square
  double block_propagated = 0;  ///< token_error() of the same
};

/// Mean over tokens of ||x'_t - x_t||^2 / ||x_t||^2: how much the norm that reads the residual stream next sees of an
/// error, with no token counting more than another.
double token_error(const at::Tensor& whole, const at::Tensor& quantized);

/// The errors of a block on x, which the whole and the quantized one get alike. `output` receives what the quantized
/// block gives. Costs, in forward passes of the block over x: 12.
LayerErrors layer_errors(const nn::Block& whole, const nn::Block& rounded, const nn::Tap& tap,
                         const nn::BlockContext& context, const at::Tensor& x, at::Tensor& output);

/// {"output", "propagated", "linears": {"q_proj": {"output", "weights", "inputs", "propagated"}, ...}}
Json layer_errors_to_json(const LayerErrors& errors);
/// The inverse; what is null or not there comes back as NaN.
LayerErrors layer_errors_from_json(const Json& json);

}  // namespace pq::quant
