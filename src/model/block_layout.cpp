#include "model/block_layout.h"

#include <fmt/format.h>

#include <stdexcept>

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

std::span<const FusedLinears> fused_linears(const ModelSpec& spec) {
  static constexpr std::array qkv{LinearId::q, LinearId::k, LinearId::v};
  static constexpr std::array gate_up{LinearId::gate, LinearId::up};
  static constexpr std::array fused{FusedLinears{"self_attn.qkv_proj", qkv}, FusedLinears{"mlp.gate_up_proj", gate_up}};
  if (!spec.family->fused_tensors) return {};
  return fused;
}

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
  const auto add = [&](NormId id, std::string_view name, std::int64_t size, std::optional<Site> output) {
    rows.push_back(
        {id, name, size, output, output ? readers_of(*output) : std::span<const LinearId>{}, spec.norm_offset});
  };
  const std::int64_t hidden = spec.hidden_size;
  const bool sandwich = spec.norm_placement == NormPlacement::sandwich;
  if (spec.norm_placement != NormPlacement::post) {
    add(NormId::attention_input, "input_layernorm", hidden, Site::qkv_input);
    add(NormId::mlp_input, sandwich ? "pre_feedforward_layernorm" : "post_attention_layernorm", hidden,
        Site::gate_up_input);
  }
  if (spec.norm_placement != NormPlacement::pre) {
    add(NormId::attention_output, "post_attention_layernorm", hidden, std::nullopt);
    add(NormId::mlp_output, "post_feedforward_layernorm", hidden, std::nullopt);
  }
  if (spec.qk_norm != QkNorm::none) {
    const bool whole = spec.qk_norm == QkNorm::all_heads;
    add(NormId::query, "self_attn.q_norm", whole ? spec.query_size() : spec.head_dim, std::nullopt);
    add(NormId::key, "self_attn.k_norm", whole ? spec.kv_size() : spec.head_dim, std::nullopt);
  }
  return rows;
}

bool has_norm(const ModelSpec& spec, NormId id) {
  const std::vector<NormRow> rows = all_norms(spec);
  return std::any_of(rows.begin(), rows.end(), [&](const NormRow& row) { return row.id == id; });
}

NormRow norm_row(const ModelSpec& spec, NormId id) {
  for (const NormRow& row : all_norms(spec)) {
    if (row.id == id) return row;
  }
  throw std::out_of_range("a norm that the model does not have");
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

std::string norm(std::int64_t index, const NormRow& norm) {
  return fmt::format("{}.{}.weight", block(index), norm.name);
}

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
