#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace pq {

/// How config.json of a family speaks of sliding windows.
struct SlidingRule {
  bool supported = false;             ///< else any window is refused
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
  SlidingRule sliding;
  // Where config.json lacks a field, the defaults of `transformers`:
  std::int64_t kv_heads_by_default = 0;  ///< 0: as many as heads
  std::int64_t positions_by_default = 0;
  std::optional<std::int64_t> bos_by_default{};
  std::optional<std::int64_t> eos_by_default{};
};
const std::vector<FamilyRow>& families();
/// Null for a model_type that is not in the table.
const FamilyRow* find_family(std::string_view model_type);

}  // namespace pq
