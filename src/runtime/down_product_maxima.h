#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/model.h"

namespace pq::runtime {

/// Largest magnitude max_c |X_ic| of each token at the input of down_proj, before what it does online:
/// [blocks][tokens]. The tokens run as one sequence behind the model's prefix. Throws InputError for a token outside
/// the vocabulary.
std::vector<std::vector<float>> down_product_maxima(const Model& model, std::span<const std::int32_t> tokens);

}  // namespace pq::runtime
