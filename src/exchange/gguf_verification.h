#pragma once

#include <filesystem>
#include <vector>

#include "exchange/gguf_plan.h"
#include "io/quantized_checkpoint.h"

namespace pq::exchange {

/// How far the weights of a file lie from those of the checkpoint.
struct WeightDifference {
  double largest = 0;           ///< of any weight
  double largest_relative = 0;  ///< over the largest magnitude of its layer
};

/// Reads a GGUF file back with the reader of io and holds all of it against the checkpoint that it was made from: the
/// architecture, the tokenizer, the embedding, lm_head, norms and biases, and every weight as dequantized, value for
/// value (the two zeros are one value). With `exact` unset weights may differ, and the result says how far. Throws
/// std::logic_error for any other difference: the file must not be used.
WeightDifference verify_gguf(const std::filesystem::path& file, const io::QuantizedCheckpoint& checkpoint,
                             const GgufPlan& plan, bool exact);

}  // namespace pq::exchange
