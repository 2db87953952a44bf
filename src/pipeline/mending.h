#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/model_spec.h"
#include "model/recipe.h"
#include "pipeline/number_kind.h"
#include "quant/layer_errors.h"

namespace pq::quant {

/// What would mend a linear layer that quantizing hurts: the format of its weights, of what it reads, or both, with the
/// next wider one (8 bits; 16 where there are 8).
struct Mend {
  std::vector<std::string> settings;  ///< as --set takes them; empty: nothing of it is quantized
  double bits_per_weight = 0;         ///< of the linear layers of the whole model with them, scales included
};

/// The mend of linear layer `linear` of `block`, by where its error comes from: weights and inputs each count where
/// they make a tenth of the error or more. What reads the same input is named too, since it cannot have another format.
/// `recipe` is one that validate_recipe() passed for this model.
Mend mend(const ModelSpec& spec, const Recipe& recipe, std::int64_t block, LinearId linear, const LinearError& error);
/// That of numbers of one kind, in `block` or (nullopt) in all blocks.
Mend mend(const ModelSpec& spec, const Recipe& recipe, std::optional<std::int64_t> block, const NumberKind& kind);

/// Something that a setting mends: numbers of one kind in all blocks, or (with a block) those of a single layer.
struct Mendable {
  std::optional<std::int64_t> block;
  NumberKind kind;
  double kl = 0;  ///< nats; of a single layer the share of its kind's that it has of the errors in the blocks' outputs
  Mend mended;

  /// "inputs of down_proj", "weights of o_proj in block 2"
  std::string name() const;
};

/// All kinds, the largest KL divergence first.
std::vector<Mendable> ranked_kinds(const ModelSpec& spec, const Recipe& recipe, const std::vector<KindDamage>& kinds);

/// What to mend together, and the model with all of it.
struct Proposal {
  std::vector<Mendable> parts;
  Mend mended;
};
/// The `most` that bring most for what they take: kinds of numbers of linear layers, and single layers, by their KL
/// divergence over the share by which the model grows, a hundredth at least (wider activations take time). A kind
/// and a single layer of it do not stand together, and all together take less than 0.3 more bits a weight. K and V,
/// whose price is another memory, are left out.
Proposal propose(const ModelSpec& spec, const Recipe& recipe, const std::vector<KindDamage>& kinds,
                 const std::vector<LayerErrors>& errors, std::size_t most = 3);

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
