#include "model/model_spec.h"

#include <fmt/format.h>

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

LinearShape linear_shape(const ModelSpec& spec, LinearId linear) {
  switch (linear) {
    case LinearId::q:
      return {spec.query_size(), spec.hidden_size, spec.qkv_bias};
    case LinearId::k:
    case LinearId::v:
      return {spec.kv_size(), spec.hidden_size, spec.qkv_bias};
    case LinearId::o:
      return {spec.hidden_size, spec.query_size(), false};
    case LinearId::gate:
    case LinearId::up:
      return {spec.intermediate_size, spec.hidden_size, false};
    case LinearId::down:
      break;
  }
  return {spec.hidden_size, spec.intermediate_size, false};
}

std::int64_t ModelSpec::block_parameters() const {
  std::int64_t sum = 0;
  for (const LinearId linear : all_linears) {
    const LinearShape shape = linear_shape(*this, linear);
    sum += shape.out_features * shape.in_features;
  }
  return sum;
}

int quantized_site_index(Site site) {
  const auto* found = std::find(quantized_sites.begin(), quantized_sites.end(), site);
  return found == quantized_sites.end() ? -1 : static_cast<int>(found - quantized_sites.begin());
}

std::string_view site_name(Site site) {
  switch (site) {
    case Site::qkv_input:
      return "self_attn.qkv_input";
    case Site::query:
      return "self_attn.query";
    case Site::key:
      return "self_attn.key";
    case Site::k_cache:
      return "self_attn.k_cache";
    case Site::v_cache:
      return "self_attn.v_cache";
    case Site::o_input:
      return "self_attn.o_input";
    case Site::gate_up_input:
      return "mlp.gate_up_input";
    case Site::down_product:
      return "mlp.down_product";
    case Site::down_input:
      return "mlp.down_input";
    case Site::block_output:
      break;
  }
  return "block_output";
}

namespace tensor_names {

std::string block(std::int64_t index) { return fmt::format("model.layers.{}", index); }
std::string input_norm(std::int64_t index) { return block(index) + ".input_layernorm.weight"; }
std::string post_attention_norm(std::int64_t index) { return block(index) + ".post_attention_layernorm.weight"; }

std::string_view linear_in_block(LinearId linear) {
  switch (linear) {
    case LinearId::q:
      return "self_attn.q_proj";
    case LinearId::k:
      return "self_attn.k_proj";
    case LinearId::v:
      return "self_attn.v_proj";
    case LinearId::o:
      return "self_attn.o_proj";
    case LinearId::gate:
      return "mlp.gate_proj";
    case LinearId::up:
      return "mlp.up_proj";
    case LinearId::down:
      break;
  }
  return "mlp.down_proj";
}

std::string linear(std::int64_t index, LinearId id) { return fmt::format("{}.{}", block(index), linear_in_block(id)); }

}  // namespace tensor_names
}  // namespace pq
