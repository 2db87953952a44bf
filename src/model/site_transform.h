#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/json.h"
#include "model/block_layout.h"
#include "model/recipe.h"
#include "numerics/site_transform.h"

namespace pq {

/// What a block does to the tensors at its quantized sites before they are quantized; most sites do nothing. At
/// k_cache every head of K, after RoPE, is multiplied with T, and every head of Q with T^-T (inverse_transposed), so
/// that the scores stay.
using SiteTransforms = PerSite<SiteTransform>;

/// Neighbouring values that a transform at this site acts on: a whole row, or a head at k_cache. None where no
/// transform can be: one of V would be part of v_proj's and o_proj's weights.
std::optional<std::int64_t> transform_size(const ModelSpec& spec, Site site);

/// What R1 is for this model: fused, online or none. Throws UnsupportedError where fused is asked for and the family's
/// norms do not allow it.
ResidualRotation residual_rotation(const ModelSpec& spec, ResidualRotation wanted);

/// R1 at qkv_input and gate_up_input (where it is online), R3 at k_cache, R4 at down_input and the one over heads at
/// o_input, as far as they are switched on.
SiteTransforms online_rotations(const ModelSpec& spec, const RotationSettings& rotate);
/// The recipe setting that leaves out the rotation which online_rotations() puts at `site`.
std::string_view setting_without_rotation(Site site);

/// `more` is computed after what is there.
void append(SiteTransforms& transforms, const SiteTransforms& more);
/// Steps and sizes alone.
SiteTransforms without_values(const SiteTransforms& transforms);

/// Throws InputError naming the site (and the step) where there can be no transform, or not this one.
void check_site_transforms(const SiteTransforms& transforms, const ModelSpec& spec);

/// {"mlp.down_input": [{"step": "hadamard", "order": 5632}]}: steps and sizes, values stand elsewhere.
Json site_transforms_to_json(const SiteTransforms& transforms);
/// Accepts exactly what site_transforms_to_json writes. Throws FormatError naming `where`; UnsupportedError for a step
/// of another name.
SiteTransforms site_transforms_from_json(const Json& json, const ModelSpec& spec, std::string_view where);

/// Calls visit(name, shape, values) for every vector of a step at a site of `size` values; Step is const or not, and
/// the vectors need not be filled.
template <typename Step, typename Visit>
void visit_step_tensors(Step& step, std::int64_t size, Visit&& visit) {
  using Shape = std::vector<std::int64_t>;
  if (auto* gather = std::get_if<GatherStep>(&step)) {
    visit("permutation", Shape{size}, gather->source);
  } else if (auto* multiply = std::get_if<MultiplyStep>(&step)) {
    visit("factors", Shape{size}, multiply->factors);
  } else if (auto* diagonal = std::get_if<BlockDiagonalStep>(&step)) {
    visit("matrices", Shape{diagonal->count, diagonal->block, diagonal->block}, diagonal->matrices);
  } else if (auto* kronecker = std::get_if<KroneckerStep>(&step)) {
    visit("left", Shape{kronecker->left, kronecker->left}, kronecker->left_matrix);
    visit("right", Shape{kronecker->right, kronecker->right}, kronecker->right_matrix);
  }
}

}  // namespace pq
