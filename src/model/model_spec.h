#pragma once

#include <cstdint>
#include <optional>
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
  bool operator==(const ModelSpec&) const = default;
};

}  // namespace pq
