#pragma once

#include <cstdint>

#include "model/recipe.h"
#include "nn/block.h"

namespace pq::quant {

/// Search sequences that K is looked at in.
inline constexpr std::int64_t key_sequences = 8;

/// RoPE turns K by its position, slow channels so slowly that the positions of a calibration sequence say nothing about
/// those further on, for which mean, basis and static scales have to serve too. So the search sequences are taken to
/// begin at different places of a long text, more of them near its beginning: since scores depend on distances alone,
/// Q and K of a sequence that begins `offset` tokens later are valid ones of the model.
///
/// Where sequence `index` of `count` begins, behind the prefix, if `room` is free behind the sequences: room times
/// (i / (n - 1))^3, with i = index modulo n and n = min(count, key_sequences).
std::int64_t key_offset(std::int64_t index, std::int64_t count, std::int64_t room);

/// project_qkv of `h` [sequences, tokens, hidden], the sequences `first_index` .. of `count`, each at its key_offset in
/// recipe.search.positions, as far as the model's context and the context's rotary table reach.
nn::Qkv project_spread(const nn::Block& block, const nn::BlockContext& context, const at::Tensor& h,
                       std::int64_t first_position, std::int64_t first_index, std::int64_t count, const Recipe& recipe);

}  // namespace pq::quant
