#include "model/model_spec.h"

#include <algorithm>

namespace pq {

const std::vector<FamilyRow>& families() {
  static const std::vector<FamilyRow> rows{
      {Family::llama, "llama", "LlamaForCausalLM", false, false},
      {Family::mistral, "mistral", "MistralForCausalLM", false, true},
      {Family::qwen2, "qwen2", "Qwen2ForCausalLM", true, true},
  };
  return rows;
}

const FamilyRow& family_row(Family family) {
  return *std::find_if(families().begin(), families().end(),
                       [&](const FamilyRow& row) { return row.family == family; });
}

}  // namespace pq
