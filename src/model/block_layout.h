#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "model/model_spec.h"

namespace pq {

// A block described as data: its linear layers, its norms, the points where activations are watched or quantized, and
// who reads what. Code that goes over a block asks these tables; it names a layer only where the arithmetic does.

/// The linear layers of a block, in the order in which they are stored.
enum class LinearId { q, k, v, o, gate, up, down };
inline constexpr std::array all_linears{LinearId::q,    LinearId::k,  LinearId::v,   LinearId::o,
                                        LinearId::gate, LinearId::up, LinearId::down};

/// The RMSNorms that a block may have, in the order in which they are stored: before attention and MLP, behind them,
/// and those of Q and K. all_norms() says which a model has.
enum class NormId { attention_input, mlp_input, attention_output, mlp_output, query, key };
inline constexpr std::array norm_ids{NormId::attention_input, NormId::mlp_input, NormId::attention_output,
                                     NormId::mlp_output,      NormId::query,     NormId::key};

/// Where activations are watched or quantized inside a block (ALGORITHM.md sections 2 and 5).
enum class Site {
  qkv_input,      ///< output of the first RMSNorm [.., hidden]
  query,          ///< Q after RoPE, before what k_cache does online to it too [.., heads, head_dim]
  key,            ///< K after RoPE, before what k_cache does online [.., kv_heads, head_dim]
  k_cache,        ///< K after RoPE and what is done online: what the KV cache holds
  v_cache,        ///< V at v_proj's output: what the KV cache holds
  o_input,        ///< input of o_proj [.., heads * head_dim]
  gate_up_input,  ///< output of the second RMSNorm [.., hidden]
  down_product,   ///< silu(gate) * up, before what down_input does online [.., intermediate]
  down_input,     ///< the same after it: what down_proj reads
  block_output,   ///< the residual stream after the block [.., hidden]
};

/// The sites that hold a quantizer, in the order in which they are stored.
inline constexpr std::array quantized_sites{Site::qkv_input, Site::k_cache,       Site::v_cache,
                                            Site::o_input,   Site::gate_up_input, Site::down_input};
inline bool is_kv(Site site) { return site == Site::k_cache || site == Site::v_cache; }
/// Name as it stands in a checkpoint and in reports, e.g. "mlp.down_input".
std::string_view site_name(Site site);

/// One value for each id of a list, kept in the list's order.
template <typename T, const auto& ids>
class PerId {
 public:
  using Id = typename std::remove_cvref_t<decltype(ids)>::value_type;
  static constexpr std::size_t count = ids.size();

  /// Throws std::out_of_range for an id that is not in the list.
  constexpr T& operator[](Id id) { return values_.at(position(id)); }
  constexpr const T& operator[](Id id) const { return values_.at(position(id)); }
  /// Null for an id that is not in the list.
  constexpr T* find(Id id) { return position(id) < count ? &values_[position(id)] : nullptr; }
  constexpr const T* find(Id id) const { return position(id) < count ? &values_[position(id)] : nullptr; }

  constexpr auto begin() { return values_.begin(); }
  constexpr auto end() { return values_.end(); }
  constexpr auto begin() const { return values_.begin(); }
  constexpr auto end() const { return values_.end(); }
  bool operator==(const PerId&) const = default;

 private:
  static constexpr std::size_t position(Id id) {
    return static_cast<std::size_t>(std::find(ids.begin(), ids.end(), id) - ids.begin());
  }
  std::array<T, count> values_{};
};

template <typename T>
using PerLinear = PerId<T, all_linears>;
template <typename T>
using PerNorm = PerId<T, norm_ids>;
template <typename T>
using PerSite = PerId<T, quantized_sites>;

struct LinearShape {
  std::int64_t out_features;
  std::int64_t in_features;
  bool bias;
};
LinearShape linear_shape(const ModelSpec& spec, LinearId linear);
/// Parameters of one block's linear layers, biases not counted.
std::int64_t block_parameters(const ModelSpec& spec);

/// Linear layers that a source checkpoint stores as one tensor, the rows of one below those of the other.
struct FusedLinears {
  std::string_view name;  ///< in a block, e.g. "self_attn.qkv_proj"
  std::span<const LinearId> parts;
};
/// Those of the family's checkpoints.
std::span<const FusedLinears> fused_linears(const ModelSpec& spec);

/// Where a source checkpoint keeps a linear layer: its rows of a tensor.
struct StoredLinear {
  std::string_view name;   ///< in a block, e.g. "self_attn.q_proj"
  std::int64_t first_row;  ///< of the layer's out_features rows
  std::int64_t rows;       ///< of the whole tensor
};
StoredLinear stored_linear(const ModelSpec& spec, LinearId linear, std::span<const FusedLinears> fused);
StoredLinear stored_linear(const ModelSpec& spec, LinearId linear);

/// The site whose tensor `linear` reads.
Site input_site(LinearId linear);
/// The linear layers that read a site's tensor, in the order of all_linears; none where something else reads it.
std::span<const LinearId> readers_of(Site site);

/// A norm as the model has it.
struct NormRow {
  NormId id;
  std::string_view name;       ///< in a block: "input_layernorm"
  std::int64_t size;           ///< elements of its weight
  std::optional<Site> output;  ///< nullopt: no site, for what is added to the residual stream, Q and K
  /// What reads its output. A norm's weight may be multiplied into them, and only into them; empty where something else
  /// than linear layers reads it, so that it has to stay.
  std::span<const LinearId> readers;
  bool unit_offset;  ///< a source checkpoint stores w where 1 + w multiplies
};
/// The norms of a block of this model, in the order of norm_ids.
std::vector<NormRow> all_norms(const ModelSpec& spec);
/// Whether a block of this model has the norm.
bool has_norm(const ModelSpec& spec, NormId id);
/// Its row. Throws std::out_of_range for a norm that the model does not have.
NormRow norm_row(const ModelSpec& spec, NormId id);
/// The norm whose output `linear` reads.
std::optional<NormId> norm_read_by(const ModelSpec& spec, LinearId linear);

/// Names of tensors in a Hugging Face checkpoint.
namespace tensor_names {
inline constexpr std::string_view embedding = "model.embed_tokens.weight";
inline constexpr std::string_view final_norm = "model.norm.weight";
inline constexpr std::string_view lm_head = "lm_head.weight";
/// "model.layers.3"
std::string block(std::int64_t index);
/// "model.layers.3.input_layernorm.weight"
std::string norm(std::int64_t index, const NormRow& norm);
/// "model.layers.3.self_attn.q_proj" (append ".weight" or ".bias")
std::string linear(std::int64_t index, LinearId linear);
/// "self_attn.q_proj"
std::string_view linear_in_block(LinearId linear);
}  // namespace tensor_names

}  // namespace pq
