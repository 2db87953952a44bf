#include "model/block_layout.h"

#include <fmt/format.h>

namespace pq {

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

std::int64_t block_parameters(const ModelSpec& spec) {
  std::int64_t sum = 0;
  for (const LinearId linear : all_linears) {
    const LinearShape shape = linear_shape(spec, linear);
    sum += shape.out_features * shape.in_features;
  }
  return sum;
}

std::span<const FusedLinears> fused_linears(const ModelSpec& /*spec*/) { return {}; }

StoredLinear stored_linear(const ModelSpec& spec, LinearId linear, std::span<const FusedLinears> fused) {
  for (const FusedLinears& tensor : fused) {
    if (std::find(tensor.parts.begin(), tensor.parts.end(), linear) == tensor.parts.end()) continue;
    StoredLinear stored{tensor.name, 0, 0};
    for (const LinearId part : tensor.parts) {
      if (part == linear) stored.first_row = stored.rows;
      stored.rows += linear_shape(spec, part).out_features;
    }
    return stored;
  }
  return {tensor_names::linear_in_block(linear), 0, linear_shape(spec, linear).out_features};
}

StoredLinear stored_linear(const ModelSpec& spec, LinearId linear) {
  return stored_linear(spec, linear, fused_linears(spec));
}

Site input_site(LinearId linear) {
  switch (linear) {
    case LinearId::q:
    case LinearId::k:
    case LinearId::v:
      return Site::qkv_input;
    case LinearId::o:
      return Site::o_input;
    case LinearId::gate:
    case LinearId::up:
      return Site::gate_up_input;
    case LinearId::down:
      break;
  }
  return Site::down_input;
}

std::span<const LinearId> readers_of(Site site) {
  static const auto readers = [] {
    PerSite<std::vector<LinearId>> rows;
    for (const LinearId linear : all_linears) rows[input_site(linear)].push_back(linear);
    return rows;
  }();
  const auto* found = readers.find(site);
  return found == nullptr ? std::span<const LinearId>{} : *found;
}

std::vector<NormRow> all_norms(const ModelSpec& spec) {
  std::vector<NormRow> rows;
  for (const NormId id : norm_ids) {
    const Site output = id == NormId::attention_input ? Site::qkv_input : Site::gate_up_input;
    rows.push_back({id, tensor_names::norm_in_block(id), spec.hidden_size, output, readers_of(output), false});
  }
  return rows;
}

std::optional<NormId> norm_read_by(const ModelSpec& spec, LinearId linear) {
  for (const NormRow& norm : all_norms(spec)) {
    if (norm.output == input_site(linear)) return norm.id;
  }
  return std::nullopt;
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

std::string_view norm_in_block(NormId norm) {
  switch (norm) {
    case NormId::attention_input:
      return "input_layernorm";
    case NormId::mlp_input:
      break;
  }
  return "post_attention_layernorm";
}

std::string norm(std::int64_t index, NormId id) { return fmt::format("{}.{}.weight", block(index), norm_in_block(id)); }

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
