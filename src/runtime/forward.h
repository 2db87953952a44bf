#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "runtime/kv_cache.h"
#include "runtime/model_parts.h"
#include "runtime/workspace.h"

namespace pq::runtime {

/// One sequence's KV cache behind the model's prefix.
struct Sequence {
  Sequence(const ModelParts& parts, std::int64_t capacity);

  KvCache cache;
  std::int64_t capacity;
  std::int64_t length = 0;  ///< tokens in the cache, the prefix not counted
  std::vector<std::shared_ptr<const RopeChunk>> rope;

  /// Makes the rotary table reach the first `tokens` tokens.
  void cover(const ModelParts& parts, std::int64_t tokens);
};

/// New tokens of one sequence.
struct Run {
  Sequence* sequence;
  std::span<const std::int32_t> tokens;
};

/// What a forward pass has just computed for all its rows, in the workspace.
enum class Stage {
  block_input,    ///< residual
  qkv_input,      ///< normed (float plans), or codes, scales, zeros, sums
  qkv,            ///< query, key, value, before RoPE
  attended,       ///< attended; query and key are rotated, the cache holds the new tokens
  o_input,        ///< as qkv_input, of attended
  attention_out,  ///< residual
  gate_up_input,  ///< as qkv_input
  product,        ///< product: silu(gate) * up, before R4
  down_input,     ///< as qkv_input, of product, which is rotated now
  block_output,   ///< residual
};
using Probe = std::function<void(Stage stage, std::int64_t block)>;

/// Runs the layers over all tokens of all runs (at most most_rows together) at once; their K and V go behind what the
/// sequences hold, whose lengths stay as they are. Leaves the residual stream after the last block in `workspace`, rows
/// in order. Tokens are inside the vocabulary, sequences have room. Throws FormatError for an embedding that is not
/// finite.
void forward(const ModelParts& parts, Workspace& workspace, std::span<const Run> runs, const Probe& probe = {});

/// Logits of `rows` (at most most_rows) rows of the residual stream, [rows][residual_stride], into out [rows, vocab].
void project_logits(const ModelParts& parts, Workspace& workspace, const float* residual, std::int64_t residual_stride,
                    std::int64_t rows, float* out);

/// Lends a workspace while it lives.
class BorrowedWorkspace {
 public:
  explicit BorrowedWorkspace(const ModelParts& parts) : parts_(parts), workspace_(parts.workspaces.take()) {}
  ~BorrowedWorkspace() { parts_.workspaces.give_back(std::move(workspace_)); }
  BorrowedWorkspace(const BorrowedWorkspace&) = delete;
  BorrowedWorkspace& operator=(const BorrowedWorkspace&) = delete;
  Workspace& operator*() { return *workspace_; }
  Workspace* operator->() { return workspace_.get(); }

 private:
  const ModelParts& parts_;
  std::unique_ptr<Workspace> workspace_;
};

}  // namespace pq::runtime
