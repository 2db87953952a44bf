#include "model/family.h"

namespace pq {

const std::vector<FamilyRow>& families() {
  static const std::vector<FamilyRow> rows{
      {.model_type = "llama",
       .architecture = "LlamaForCausalLM",
       .sliding = {.switched_on = true},
       .positions_by_default = 2048,
       .bos_by_default = 1,
       .eos_by_default = 2},
      {.model_type = "mistral",
       .architecture = "MistralForCausalLM",
       .sliding = {.supported = true, .window_by_default = 4096},
       .kv_heads_by_default = 8,
       .positions_by_default = 131072,
       .bos_by_default = 1,
       .eos_by_default = 2},
      {.model_type = "qwen2",
       .architecture = "Qwen2ForCausalLM",
       .qkv_bias = true,
       .sliding = {.supported = true, .switched_on = false, .window_by_default = 4096, .first_block = 28},
       .kv_heads_by_default = 32,
       .positions_by_default = 32768},
  };
  return rows;
}

const FamilyRow* find_family(std::string_view model_type) {
  for (const FamilyRow& row : families()) {
    if (row.model_type == model_type) return &row;
  }
  return nullptr;
}

}  // namespace pq
