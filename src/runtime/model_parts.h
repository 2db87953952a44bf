#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "io/safetensors.h"
#include "kernels/kernels.h"
#include "model/model_spec.h"
#include "model/recipe.h"
#include "numerics/hadamard.h"
#include "runtime/aligned_buffer.h"
#include "runtime/kv_cache.h"
#include "runtime/linear_input.h"
#include "runtime/model.h"
#include "runtime/packed_linear.h"

namespace pq::runtime {

struct Workspace;

/// An online rotation with its Paley matrix as the kernels want it.
class OnlineRotation {
 public:
  explicit OnlineRotation(std::int64_t order);
  const HadamardPlan& plan() const { return plan_; }
  kernels::Hadamard kernel() const;

 private:
  HadamardPlan plan_;
  std::vector<float> base_;
};

/// cos and sin of 256 neighbouring positions, [256][head_dim / 2] each, rounded from float64.
struct RopeChunk {
  static constexpr std::int64_t positions = 256;
  std::vector<float> cos;
  std::vector<float> sin;
};

/// The rotary table, made as far as it was asked for.
class RopeTable {
 public:
  RopeTable(std::int64_t head_dim, double theta) : head_dim_(head_dim), theta_(theta) {}
  /// Positions 256 * index .. 256 * index + 255. Safe from any thread.
  std::shared_ptr<const RopeChunk> chunk(std::int64_t index) const;

 private:
  std::int64_t head_dim_;
  double theta_;
  mutable std::mutex mutex_;
  mutable std::vector<std::shared_ptr<const RopeChunk>> chunks_;
};

/// Memory of forward passes, lent to one of them at a time and kept for the next.
class WorkspacePool {
 public:
  WorkspacePool();
  ~WorkspacePool();
  std::unique_ptr<Workspace> take() const;
  void give_back(std::unique_ptr<Workspace> workspace) const;

 private:
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Workspace>> idle_;
};

struct PackedBlock {
  std::vector<float> input_norm;           ///< [hidden]
  std::vector<float> post_attention_norm;  ///< [hidden]
  std::array<PackedLinear, 7> linears;     ///< in the order of all_linears
  LinearInput qkv_input;
  LinearInput o_input;
  LinearInput gate_up_input;
  LinearInput down_input;
  KvQuantizer key;
  KvQuantizer value;
  AlignedBuffer prefix_key;    ///< float [kv_heads][prefix][padded_dim]
  AlignedBuffer prefix_value;  ///< the same
  std::int64_t window = 0;

  const PackedLinear& operator[](LinearId id) const { return linears[static_cast<std::size_t>(id)]; }
  PackedLinear& operator[](LinearId id) { return linears[static_cast<std::size_t>(id)]; }
};

/// Everything that a forward pass reads.
struct ModelParts {
  ModelParts(const ModelSpec& spec, const Recipe& recipe, const ModelOptions& options,
             const kernels::KernelTable& table);
  ~ModelParts();

  ModelSpec spec;
  Recipe recipe;
  ModelOptions options;
  std::filesystem::path directory;
  const kernels::KernelTable& table;
  std::shared_ptr<const void> files;  ///< keeps alive what `embedding` looks into
  io::TensorView embedding;           ///< [vocab, hidden]
  std::vector<float> final_norm;
  LinearInput head_input;
  PackedLinear lm_head;
  std::vector<PackedBlock> blocks;
  std::optional<OnlineRotation> r3;
  std::optional<OnlineRotation> r4;
  KvPlan kv;
  std::vector<std::int32_t> prefix_ids;
  RopeTable rope;
  WorkspacePool workspaces;

  std::int64_t prefix() const { return static_cast<std::int64_t>(prefix_ids.size()); }
  kernels::KvHead head(const KvCache& cache, std::int64_t block, std::int64_t head) const;
  /// Row `token` of the embedding as float32 (quantized to 8 bits per row with lm_head_bits 8), [hidden]. `token` is
  /// inside the vocabulary. Throws FormatError for a row that is not finite.
  void embed(std::int32_t token, std::span<float> out) const;
};

}  // namespace pq::runtime
