#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "io/safetensors.h"
#include "kernels/kernels.h"
#include "model/block_layout.h"
#include "model/recipe.h"
#include "runtime/aligned_buffer.h"
#include "runtime/kv_cache.h"
#include "runtime/linear_input.h"
#include "runtime/model_options.h"
#include "runtime/online_transform.h"
#include "runtime/packed_linear.h"
#include "runtime/rope.h"
#include "runtime/workspace.h"

namespace pq::runtime {

struct PackedBlock {
  PerNorm<std::vector<float>> norms;
  PerLinear<PackedLinear> linears;
  OnlineTransform query_transform;  ///< of each head, after RoPE
  OnlineTransform key_transform;    ///< the same
  LinearInput qkv_input;
  LinearInput o_input;
  LinearInput gate_up_input;
  LinearInput down_input;
  KvPlan kv;
  KvQuantizer key;
  KvQuantizer value;
  std::vector<float> key_basis;    ///< [kv_heads, head_dim, head_dim], behind key_transform; or empty
  std::vector<float> query_basis;  ///< the same behind query_transform
  std::vector<float> key_mean;     ///< [kv_heads, head_dim], or empty
  AlignedBuffer prefix_key;        ///< float [kv_heads][prefix][padded_dim]
  AlignedBuffer prefix_value;      ///< the same
  std::int64_t window = 0;
  std::size_t rope = 0;  ///< which of the model's tables

  const PackedLinear& operator[](LinearId id) const { return linears[id]; }
  PackedLinear& operator[](LinearId id) { return linears[id]; }
};

/// Everything that a forward pass reads. model_loader fills it in.
struct ModelParts {
  ModelParts(const ModelSpec& spec, const Recipe& recipe, const ModelOptions& options,
             const kernels::KernelTable& table);

  ModelSpec spec;
  Recipe recipe;
  ModelOptions options;
  std::filesystem::path path;
  const kernels::KernelTable& table;
  std::shared_ptr<const void> files;  ///< keeps alive what `embedding` looks into
  io::TensorView embedding;           ///< [vocab, hidden]
  std::vector<float> final_norm;
  LinearInput head_input;
  PackedLinear lm_head;
  std::vector<PackedBlock> blocks;
  std::int64_t prefix_length = 0;
  std::vector<std::int32_t> prefix_ids;  ///< empty where they are not known
  std::deque<RopeTable> ropes;           ///< one a kind of the blocks' pattern
  WorkspaceShape workspace_shape{};
  WorkspacePool workspaces;

  std::int64_t prefix() const { return prefix_length; }
  /// How each block's KV cache keeps K and V.
  std::vector<KvPlan> kv_plans() const;
  /// Of all blocks together.
  std::uint64_t kv_bytes_per_token() const;
  kernels::KvHead head(const KvCache& cache, std::int64_t block, std::int64_t head) const;
  /// Row `token` of the embedding as float32 (quantized to 8 bits per row with lm_head_bits 8), [hidden]. `token` is
  /// inside the vocabulary. Throws FormatError for a row that is not finite.
  void embed(std::int32_t token, std::span<float> out) const;
};

}  // namespace pq::runtime
