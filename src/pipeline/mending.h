#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/model_spec.h"
#include "model/recipe.h"
#include "quant/layer_errors.h"

namespace pq::quant {

/// What would mend a linear layer that quantizing hurts: the format of its weights, of what it reads, or both, with the
/// next wider one (8 bits; 16 where there are 8).
struct Mend {
  std::vector<std::string> settings;  ///< as --set takes them; empty: nothing of it is quantized
  double bits_per_weight = 0;         ///< of the linear layers of the whole model with them, scales included
};

/// The mend of linear layer `linear` of `block` (nullopt: of every block), by where its error comes from: weights and
/// inputs each count where they make a tenth of the error or more. What reads the same input is named too, since it
/// cannot have another format. `recipe` is one that validate_recipe() passed for this model.
Mend mend(const ModelSpec& spec, const Recipe& recipe, std::optional<std::int64_t> block, LinearId linear,
          const LinearError& error);
/// That of K and V of `block` (nullopt: of every block).
Mend mend_caches(const ModelSpec& spec, const Recipe& recipe, std::optional<std::int64_t> block);

/// A linear layer of a model, and what it costs.
struct RankedLinear {
  std::int64_t block = 0;
  LinearId linear = LinearId::q;
  LinearError error;
  Mend mended;
};
/// Those that cost most, by LinearError::propagated, the largest first.
std::vector<RankedLinear> worst_linears(const ModelSpec& spec, const Recipe& recipe,
                                        const std::vector<LayerErrors>& errors, std::size_t most = 10);

}  // namespace pq::quant
