#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "model/language_model.h"
#include "runtime/model_parts.h"
#include "runtime/sequence.h"
#include "runtime/workspace.h"

namespace pq::runtime {

/// What a forward pass has just computed for all its rows, in the workspace.
enum class Stage {
  block_input,    ///< residual
  qkv_input,      ///< linear: normed (float plans), or codes, scales, zeros, sums
  qkv,            ///< query, key, value, before RoPE
  attended,       ///< attended; query and key are rotated, the cache holds the new tokens
  o_input,        ///< as qkv_input, of attended
  attention_out,  ///< residual
  gate_up_input,  ///< as qkv_input
  product,        ///< product: activation(gate) * up, before what down_input does online
  down_input,     ///< as qkv_input, of product, which is rotated now
  block_output,   ///< residual
};
using Probe = std::function<void(Stage stage, std::int64_t block)>;

/// Runs the layers over all tokens of all runs (at most most_rows together) at once; their K and V go behind what the
/// sequences hold, whose lengths stay as they are. Leaves the residual stream after the last block in `workspace`, rows
/// in order. Tokens are inside the vocabulary, sequences have room. Throws FormatError for an embedding that is not
/// finite.
void forward(const ModelParts& parts, Workspace& workspace, std::span<const Run> runs, const Probe& probe = {});

/// The same over runs of any length, in as many passes as that takes; the sequences' lengths grow by their runs. After
/// a pass take(first, residual) gets the residual stream of its rows, which are rows first, first + 1, .. of all runs
/// one after the other. When it throws, the lengths are what they were.
void forward_all(const ModelParts& parts, Workspace& workspace, std::span<const Run> runs,
                 const std::function<void(std::int64_t first, const ConstRows& residual)>& take);

/// Logits of `rows` (at most most_rows) of the residual stream, into out [rows, vocab].
void project_logits(const ModelParts& parts, Workspace& workspace, const ConstRows& residual, float* out);
/// The same in tiles of LanguageModel::tile_ids ids of all rows, each while it is in a thread's cache; `visit` is
/// called from several threads.
void project_tiles(const ModelParts& parts, Workspace& workspace, const ConstRows& residual,
                   const std::function<void(const LogitTile&)>& visit);

}  // namespace pq::runtime
