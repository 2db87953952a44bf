#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "model/recipe.h"
#include "quant/layer_errors.h"

namespace pq::quant {

enum class NumberPart { weights, inputs, caches };

/// Numbers that are quantized alike in all blocks: the weights of the linear layers that share an input, what they
/// read, or K and V.
struct NumberKind {
  NumberPart part = NumberPart::weights;
  std::vector<LinearId> linears = {};  ///< none for K and V

  /// "inputs of gate_proj, up_proj"
  std::string name() const;
  QuantizedParts parts() const;
  bool operator==(const NumberKind&) const = default;
};

/// The kinds that the recipe quantizes in some block of a model, in the order of the block.
std::vector<NumberKind> quantized_kinds(const Recipe& recipe, std::int64_t blocks);

/// The bits that a recipe gives a kind, in `block` or (nullopt) in all blocks of the model.
struct Widths {
  int least = 16;
  int most = 0;
};
Widths widths_of(const Recipe& recipe, std::int64_t blocks, std::optional<std::int64_t> block, const NumberKind& kind);

/// KL divergence in nats, mean over tokens, of the whole model from the one with this kind alone quantized.
struct KindDamage {
  NumberKind kind;
  double kl = 0;
};

/// [{"name": "inputs of down_proj", "kl_divergence"}]
Json kind_damage_to_json(const std::vector<KindDamage>& kinds);

}  // namespace pq::quant
