#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "model/family.h"
#include "model/rope.h"

namespace pq {

/// What may differ from block to block.
struct BlockSpec {
  std::int64_t window = 0;  ///< tokens a query sees, itself included; 0: all
  RopeSpec rope = PlainRope{};
  bool operator==(const BlockSpec&) const = default;
};

/// Architecture as data: all that the arithmetic of a decoder-only transformer of these families depends on. Every
/// member stands in model_spec_fields().
struct ModelSpec {
  const FamilyRow* family = &families().front();
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t block_count = 0;
  std::int64_t head_count = 0;
  std::int64_t kv_head_count = 0;
  std::int64_t head_dim = 0;
  std::int64_t vocab_size = 0;
  std::int64_t max_positions = 0;  ///< context length in tokens that a user sees; a prefix does not count against it
  double rms_norm_eps = 0;
  bool tied_embeddings = false;
  bool qkv_bias = false;
  /// Repeats over the blocks: one entry where all are alike, one for each where they follow no pattern. Never empty.
  std::vector<BlockSpec> block_pattern = std::vector<BlockSpec>(1);
  std::optional<std::int64_t> rotary_width{};  ///< channels of a head that RoPE turns; nullopt: all
  NormPlacement norm_placement = NormPlacement::pre;
  bool norm_offset = false;  ///< a source checkpoint keeps w where 1 + w multiplies
  QkNorm qk_norm = QkNorm::none;
  std::optional<double> attention_scale{};  ///< what scores are multiplied by; nullopt: 1 / sqrt(head_dim)
  double score_soft_cap = 0;                ///< scores become c tanh(s / c); 0: they stay
  Activation activation = Activation::silu;
  double embedding_scale = 1;  ///< what the embedding's rows are multiplied by
  double residual_scale = 1;   ///< what attention and MLP are multiplied by before they join the residual stream
  double logit_scale = 1;      ///< what lm_head's products are multiplied by
  double logit_soft_cap = 0;   ///< logits become c tanh(l / c); 0: they stay
  std::optional<std::int64_t> bos_token_id{};
  std::vector<std::int64_t> eos_token_ids{};

  std::int64_t query_size() const { return head_count * head_dim; }
  std::int64_t kv_size() const { return kv_head_count * head_dim; }
  const BlockSpec& block(std::int64_t index) const {
    return block_pattern.at(static_cast<std::size_t>(index) % block_pattern.size());
  }
  std::int64_t window_of_block(std::int64_t index) const { return block(index).window; }
  /// The largest window of any block; 0: none has one.
  std::int64_t largest_window() const;
  /// What scores are multiplied by before the softmax.
  double score_scale() const { return attention_scale.value_or(1.0 / std::sqrt(static_cast<double>(head_dim))); }
  /// Channels of a head that RoPE turns, the first ones.
  std::int64_t rotary_channels() const { return rotary_width.value_or(head_dim); }
  /// Equal in every field of model_spec_fields().
  bool operator==(const ModelSpec& other) const;
};

/// One member of a ModelSpec.
struct ModelSpecField {
  std::string_view key;
  bool computes;  ///< decides what tokens are computed to, so that a cache of another value is useless
  std::function<Json(const ModelSpec&)> get;
  std::function<void(ModelSpec&, const Json&)> set;  ///< throws what nlohmann::json throws for a wrong type
};
/// Every member of ModelSpec once: comparison, JSON and fingerprints go over this table.
const std::vector<ModelSpecField>& model_spec_fields();

/// {"family": "llama", "hidden_size": .., ..}; model_spec_from_json accepts exactly what model_spec_to_json writes
/// (absent fields keep their defaults; an unknown one or a value of the wrong type is a FormatError that names
/// `where`).
Json model_spec_to_json(const ModelSpec& spec);
ModelSpec model_spec_from_json(const Json& json, std::string_view where);
/// The fields that compute, as text: equal for models whose caches may be exchanged, as far as the architecture goes.
std::string model_spec_fingerprint(const ModelSpec& spec);

/// Throws UnsupportedError naming the field for a value whose arithmetic is not there, in neither half of the program.
/// `where` names the model.
void require_supported(const ModelSpec& spec, std::string_view where);

}  // namespace pq
