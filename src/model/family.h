#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace pq {

/// What gates the MLP: activation(gate) * up.
enum class Activation { silu, gelu_tanh };
/// RMSNorms of Q and K before RoPE: none, one weight a channel of a head, or one a channel of all heads together.
enum class QkNorm { none, per_head, all_heads };
/// Where a block has its RMSNorms: before attention and MLP (Llama), before and behind each (Gemma), or only behind
/// (OLMo 2), in front of the sum with the residual stream.
enum class NormPlacement { pre, sandwich, post };

/// How config.json of a family speaks of sliding windows.
struct SlidingRule {
  bool supported = false;             ///< else any window is refused
  bool by_layer_types = false;        ///< `layer_types` says which blocks have it
  std::int64_t pattern = 0;           ///< without it every pattern-th block has none; 0: all have it
  std::optional<bool> switched_on{};  ///< `use_sliding_window` when absent; nullopt: the family has no such switch
  std::int64_t window_by_default{};   ///< `sliding_window` when absent; 0: none
  /// `max_window_layers` when absent: blocks before that one see all. nullopt: the window is every block's.
  std::optional<std::int64_t> first_block{};
};

/// A family of architectures whose arithmetic is known here: what its config.json says and leaves out.
struct FamilyRow {
  std::string_view model_type;    ///< `model_type` of config.json
  std::string_view architecture;  ///< `architectures[0]` of config.json
  bool qkv_bias = false;          ///< q, k and v projections always carry a bias
  bool fused_tensors = false;     ///< checkpoints keep q, k and v in one tensor, and gate and up
  QkNorm qk_norm = QkNorm::none;
  NormPlacement norm_placement = NormPlacement::pre;
  bool norm_offset = false;  ///< checkpoints keep w where 1 + w multiplies
  std::string_view activation_key = "hidden_act";
  Activation activation = Activation::silu;  ///< the only one that it has
  bool partial_rotary = false;               ///< reads partial_rotary_factor
  bool local_rope = false;                   ///< blocks with a window have a rotary embedding of their own
  bool rope_by_block = false;                ///< reads no_rope_layers
  bool multipliers = false;                  ///< reads Granite's multipliers
  bool scaled_embedding = false;             ///< the embedding times sqrt(hidden_size), scores by query_pre_attn_scalar
  SlidingRule sliding{};
  // Where config.json lacks a field, the defaults of `transformers`:
  std::optional<std::int64_t> heads_by_default{};
  std::optional<std::int64_t> vocab_by_default{};
  std::int64_t kv_heads_by_default = 0;  ///< 0: as many as heads
  std::int64_t positions_by_default = 0;
  std::int64_t head_dim_by_default = 0;  ///< 0: hidden_size / heads
  double theta_by_default = 10000;
  bool tied_by_default = false;
  std::optional<std::int64_t> bos_by_default{};
  std::optional<std::int64_t> eos_by_default{};
};
const std::vector<FamilyRow>& families();
/// Null for a model_type that is not in the table.
const FamilyRow* find_family(std::string_view model_type);

}  // namespace pq
