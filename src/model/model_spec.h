#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pq {

/// The architectures whose arithmetic is known here. A family is a row of `families()`.
enum class Family { llama, mistral, qwen2 };

struct FamilyRow {
  Family family;
  std::string_view model_type;    ///< `model_type` of config.json
  std::string_view architecture;  ///< `architectures[0]` of config.json
  bool qkv_bias;                  ///< q, k and v projections always carry a bias
  bool may_slide;                 ///< `sliding_window` of config.json is honoured
};
const std::vector<FamilyRow>& families();
const FamilyRow& family_row(Family family);

/// Architecture as data: all that the arithmetic of a decoder-only transformer of these families depends on.
struct ModelSpec {
  Family family = Family::llama;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t block_count = 0;
  std::int64_t head_count = 0;
  std::int64_t kv_head_count = 0;
  std::int64_t head_dim = 0;
  std::int64_t vocab_size = 0;
  std::int64_t max_positions = 0;  ///< context length in tokens that a user sees; a prefix does not count against it
  double rms_norm_eps = 0;
  double rope_theta = 0;
  bool tied_embeddings = false;
  bool qkv_bias = false;
  std::int64_t sliding_window = 0;       ///< tokens a query sees, itself included; 0: all
  std::int64_t first_sliding_block = 0;  ///< blocks before this one see all (Qwen2's max_window_layers)
  std::optional<std::int64_t> bos_token_id;
  std::vector<std::int64_t> eos_token_ids;

  std::int64_t query_size() const { return head_count * head_dim; }
  std::int64_t kv_size() const { return kv_head_count * head_dim; }
  std::int64_t window_of_block(std::int64_t block) const { return block >= first_sliding_block ? sliding_window : 0; }
  /// Parameters of one block's seven linear layers.
  std::int64_t block_parameters() const;
  bool operator==(const ModelSpec&) const = default;
};

/// The seven linear layers of a block, in the order in which they are stored.
enum class LinearId { q, k, v, o, gate, up, down };
inline constexpr std::array<LinearId, 7> all_linears{LinearId::q,    LinearId::k,  LinearId::v,   LinearId::o,
                                                     LinearId::gate, LinearId::up, LinearId::down};

struct LinearShape {
  std::int64_t out_features;
  std::int64_t in_features;
  bool bias;
};
LinearShape linear_shape(const ModelSpec& spec, LinearId linear);

/// Where activations are watched or quantized inside a block (ALGORITHM.md sections 2 and 5).
enum class Site {
  qkv_input,      ///< output of the first RMSNorm [.., hidden]
  query,          ///< Q after RoPE, before R3 [.., heads, head_dim]
  key,            ///< K after RoPE, before R3 [.., kv_heads, head_dim]
  k_cache,        ///< K after RoPE and R3: what the KV cache holds
  v_cache,        ///< V at v_proj's output: what the KV cache holds
  o_input,        ///< input of o_proj [.., heads * head_dim]
  gate_up_input,  ///< output of the second RMSNorm [.., hidden]
  down_product,   ///< silu(gate) * up, before R4 [.., intermediate]
  down_input,     ///< the same after R4: what down_proj reads
  block_output,   ///< the residual stream after the block [.., hidden]
};

/// The sites that hold a quantizer, in the order in which they are stored.
inline constexpr std::array<Site, 6> quantized_sites{Site::qkv_input, Site::k_cache,       Site::v_cache,
                                                     Site::o_input,   Site::gate_up_input, Site::down_input};
/// Position of `site` in quantized_sites; -1 for a site without quantizer.
int quantized_site_index(Site site);
inline bool is_kv(Site site) { return site == Site::k_cache || site == Site::v_cache; }

/// Name as it stands in a checkpoint and in reports, e.g. "mlp.down_input".
std::string_view site_name(Site site);

/// Names of tensors in a Hugging Face checkpoint.
namespace tensor_names {
inline constexpr std::string_view embedding = "model.embed_tokens.weight";
inline constexpr std::string_view final_norm = "model.norm.weight";
inline constexpr std::string_view lm_head = "lm_head.weight";
/// "model.layers.3"
std::string block(std::int64_t index);
/// "model.layers.3.input_layernorm.weight"
std::string input_norm(std::int64_t index);
std::string post_attention_norm(std::int64_t index);
/// "model.layers.3.self_attn.q_proj" (append ".weight" or ".bias")
std::string linear(std::int64_t index, LinearId linear);
/// "self_attn.q_proj"
std::string_view linear_in_block(LinearId linear);
}  // namespace tensor_names

}  // namespace pq
