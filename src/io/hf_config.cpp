#include "io/hf_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "io/config_fields.h"
#include "io/rope_config.h"

namespace pq::io {
namespace {

// Limits beyond any model of these families; below them no product of two sizes overflows 63 bits.
constexpr std::int64_t max_size = std::int64_t{1} << 24;
constexpr std::int64_t max_blocks = 4096;
constexpr std::int64_t max_vocab = std::int64_t{1} << 27;
constexpr std::int64_t max_positions = std::int64_t{1} << 31;

/// Fields that are read below, each with its own checks.
constexpr std::array known_fields{"architectures",
                                  "model_type",
                                  "hidden_act",
                                  "hidden_activation",
                                  "hidden_size",
                                  "intermediate_size",
                                  "num_hidden_layers",
                                  "num_attention_heads",
                                  "num_key_value_heads",
                                  "head_dim",
                                  "max_position_embeddings",
                                  "rms_norm_eps",
                                  "rope_theta",
                                  "rope_scaling",
                                  "rope_parameters",
                                  "rope_local_base_freq",
                                  "partial_rotary_factor",
                                  "sliding_window",
                                  "use_sliding_window",
                                  "max_window_layers",
                                  "layer_types",
                                  "sliding_window_pattern",
                                  "_sliding_window_pattern",
                                  "no_rope_layers",
                                  "no_rope_layer_interval",
                                  "embedding_multiplier",
                                  "residual_multiplier",
                                  "attention_multiplier",
                                  "logits_scaling",
                                  "query_pre_attn_scalar",
                                  "tie_word_embeddings",
                                  "vocab_size",
                                  "bos_token_id",
                                  "eos_token_id",
                                  "quantization_config",
                                  "compression_config"};

/// Parts of names that speak of arithmetic. Model families are extended by new fields of config.json, and a field that
/// this program does not know may change what the model computes: then its answers would be wrong without a sign. Most
/// unknown fields are bookkeeping, though (versions, labels, generation defaults), so what decides is the name: one
/// that contains any of these is refused unless its value is neutral; any other is ignored. Training-time fields are
/// exempt below.
constexpr std::array arithmetic_parts{"scal",   "multipl",   "softcap", "norm",           "bias",       "rope",
                                      "rotary", "window",    "expert",  "alibi",          "residual",   "lora",
                                      "clip",   "factor",    "sink",    "attention_type", "hidden_act", "activation",
                                      "act_fn", "logit_cap", "qk_",     "num_nextn",      "mup",        "layer_types"};
/// Names that contain such a part and still change nothing when a trained model is run.
constexpr std::array harmless_parts{"dropout",
                                    "pdrop",
                                    "initializer",
                                    "aux_loss",
                                    "loss_coef",
                                    "z_loss",
                                    "max_lora_rank",
                                    "original_max_position_embeddings",
                                    "num_logits_to_keep",
                                    "layer_norm_eps"};

bool contains_any(std::string_view name, const auto& parts) {
  return std::any_of(parts.begin(), parts.end(),
                     [&](const char* part) { return name.find(part) != std::string_view::npos; });
}

/// A value that switches a field off: null, false, an empty list, or 1 for something that multiplies.
bool is_neutral(std::string_view name, const Json& value) {
  if (value.is_null() || value == false) return true;
  if ((value.is_array() || value.is_object() || value.is_string()) && value.empty()) return true;
  if (value == "none" || value == "default") return true;
  if (!value.is_number()) return false;
  constexpr std::array multiplies{"scal", "multipl", "factor", "pct", "percent"};
  if (contains_any(name, multiplies)) return value.get<double>() == 1.0;
  constexpr std::array counts{"expert", "softcap", "window", "cap", "num_nextn", "lora", "sink"};
  constexpr std::array or_minus_one{"window", "clip"};
  return (contains_any(name, counts) && value.get<double>() == 0.0) ||
         (contains_any(name, or_minus_one) && value.get<double>() == -1.0);
}

void refuse_unknown_arithmetic(const Fields& fields) {
  for (const auto& [name, value] : fields.json().items()) {
    if (std::find(known_fields.begin(), known_fields.end(), std::string_view(name)) != known_fields.end()) continue;
    if (!contains_any(name, arithmetic_parts) || contains_any(name, harmless_parts)) continue;
    if (!is_neutral(name, value)) fields.refuse(name, value);
  }
}

/// A field that some family reads, of another one: refused unless it is neutral.
void refuse_foreign(const Fields& fields, bool own, std::string_view key) {
  const Json* value = fields.find(key);
  if (value != nullptr && !own && !is_neutral(key, *value)) fields.refuse(key, *value);
}

void refuse_quantized(const Fields& fields) {
  for (const std::string_view key : {"quantization_config", "compression_config"}) {
    const Json* value = fields.find(key);
    if (value == nullptr || is_neutral(key, *value)) continue;
    std::string method = "an unnamed method";
    if (value->is_object() && value->contains("quant_method") && (*value)["quant_method"].is_string()) {
      method = (*value)["quant_method"].get<std::string>();
    }
    throw UnsupportedError(fields.where(), fmt::format("the model is already quantized, by {}", method),
                           "use the original, unquantized checkpoint");
  }
}

const FamilyRow& family_of(const Fields& fields) {
  const std::string type = fields.string("model_type");
  if (const FamilyRow* row = find_family(type)) return *row;
  std::string supported;
  for (const FamilyRow& row : families()) {
    supported += fmt::format("{}{}", supported.empty() ? "" : ", ", row.model_type);
  }
  throw UnsupportedError(fields.where(), fmt::format("model_type '{}' is not supported", type),
                         fmt::format("supported: {}", supported));
}

void check_architecture(const Fields& fields, const FamilyRow& row) {
  const Json* architectures = fields.find("architectures");
  if (architectures == nullptr || !architectures->is_array() || architectures->empty()) return;
  const Json& first = (*architectures)[0];
  // A model that was saved without its head is named after what it lacks: LlamaModel, Gemma3TextModel.
  constexpr std::string_view with_head = "ForCausalLM";
  const std::string stem(row.architecture.substr(0, row.architecture.size() - with_head.size()));
  if (first == row.architecture || first == stem + "Model" || first == stem + "TextModel") return;
  throw UnsupportedError(fields.where(), fmt::format("architecture {} is not supported", Fields::brief(first)),
                         fmt::format("supported for {}: {}", row.model_type, row.architecture));
}

/// The names that transformers has for one function.
void check_activation(const Fields& fields, const FamilyRow& row) {
  constexpr std::array silu{"silu", "swish"};
  constexpr std::array gelu_tanh{"gelu_pytorch_tanh", "gelu_new", "gelu_fast"};
  for (const std::string_view key : {"hidden_act", "hidden_activation"}) {
    const Json* value = fields.find(key);
    const auto is = [&](const char* name) { return *value == name; };
    const bool known =
        value == nullptr || (row.activation == Activation::silu ? std::any_of(silu.begin(), silu.end(), is)
                                                                : std::any_of(gelu_tanh.begin(), gelu_tanh.end(), is));
    if (!known) fields.refuse(key, *value);
  }
}

/// Which blocks have a window: by `layer_types`, by the family's pattern, or from one block on.
std::vector<bool> sliding_blocks(const Fields& fields, const ModelSpec& spec) {
  const SlidingRule& rule = spec.family->sliding;
  const auto blocks = static_cast<std::size_t>(spec.block_count);
  std::vector<bool> sliding(blocks, true);
  if (rule.first_block) {
    const std::int64_t full = fields.integer("max_window_layers", 0, max_size, *rule.first_block);
    std::fill_n(sliding.begin(), std::min(full, spec.block_count), false);
  }
  if (rule.pattern > 0) {
    const std::int64_t every = fields.integer("sliding_window_pattern", 1, max_size, rule.pattern);
    for (std::size_t i = 0; i < blocks; ++i) sliding[i] = (i + 1) % static_cast<std::size_t>(every) != 0;
  }
  const Json* types = fields.find("layer_types");
  if (types == nullptr || !rule.by_layer_types) return sliding;
  if (!types->is_array() || types->size() != blocks) {
    fields.lie("layer_types", fmt::format("does not list {} blocks", spec.block_count));
  }
  for (std::size_t i = 0; i < blocks; ++i) {
    const Json& type = (*types)[i];
    if (type != "sliding_attention" && type != "full_attention") fields.refuse("layer_types", type);
    sliding[i] = type == "sliding_attention";
  }
  return sliding;
}

/// Blocks of a NoPE family that have a rotary embedding: `no_rope_layers` lists 1 for those.
std::vector<bool> rotary_blocks(const Fields& fields, const ModelSpec& spec) {
  const auto blocks = static_cast<std::size_t>(spec.block_count);
  std::vector<bool> rotary(blocks, true);
  if (!spec.family->rope_by_block) return rotary;
  const std::int64_t every = fields.integer("no_rope_layer_interval", 1, max_size, 4);
  for (std::size_t i = 0; i < blocks; ++i) rotary[i] = (i + 1) % static_cast<std::size_t>(every) != 0;
  const Json* listed = fields.find("no_rope_layers");
  if (listed == nullptr) return rotary;
  if (!listed->is_array() || listed->size() != blocks) {
    fields.lie("no_rope_layers", fmt::format("does not list {} blocks", spec.block_count));
  }
  for (std::size_t i = 0; i < blocks; ++i) rotary[i] = fields.integer_value("no_rope_layers", (*listed)[i], 0, 1) == 1;
  return rotary;
}

/// layer_types of a family whose other fields say the same.
void check_layer_types(const Fields& fields, const ModelSpec& spec) {
  const Json* types = fields.find("layer_types");
  if (types == nullptr) return;
  if (!types->is_array() || static_cast<std::int64_t>(types->size()) != spec.block_count) {
    fields.lie("layer_types", fmt::format("does not list {} blocks", spec.block_count));
  }
  for (std::int64_t block = 0; block < spec.block_count; ++block) {
    const std::string_view expected = spec.window_of_block(block) > 0 ? "sliding_attention" : "full_attention";
    const Json& type = (*types)[static_cast<std::size_t>(block)];
    if (type == expected) continue;
    throw UnsupportedError(fields.where(),
                           fmt::format("field 'layer_types' says {} for block {}, the other fields {}",
                                       Fields::brief(type), block, expected),
                           "only a window from one block on is supported");
  }
}

/// Windows and rotary embeddings of the blocks.
void read_blocks(const Fields& fields, ModelSpec& spec) {
  const SlidingRule& rule = spec.family->sliding;
  const RopeSettings ropes = read_ropes(fields, spec, fields.integer(context_key, 0, max_positions, 0));
  spec.max_positions = ropes.max_positions;
  spec.rotary_width = ropes.width;
  const bool on = !rule.switched_on || fields.boolean("use_sliding_window", *rule.switched_on);
  const std::int64_t window_by_default = fields.contains("sliding_window") ? 0 : rule.window_by_default;
  const std::int64_t window = on ? fields.integer("sliding_window", 1, max_positions, window_by_default) : 0;
  if (window != 0 && !rule.supported) fields.refuse("sliding_window", Json(window));

  const std::vector<bool> sliding = sliding_blocks(fields, spec);
  const std::vector<bool> rotary = rotary_blocks(fields, spec);
  std::vector<BlockSpec> blocks;
  for (std::size_t i = 0; i < sliding.size(); ++i) {
    const RopeSpec& rope = sliding[i] && ropes.sliding ? *ropes.sliding : ropes.full;
    blocks.push_back({sliding[i] ? window : 0, rotary[i] ? rope : NoRope{}});
  }
  const bool alike =
      std::all_of(blocks.begin(), blocks.end(), [&](const BlockSpec& block) { return block == blocks.front(); });
  if (alike) blocks.resize(1);
  spec.block_pattern = std::move(blocks);
  if (!rule.by_layer_types) check_layer_types(fields, spec);
}

/// What multiplies the embedding, the scores, the residual stream and the logits.
void read_scales(const Fields& fields, ModelSpec& spec) {
  const bool granite = spec.family->multipliers;
  for (const std::string_view key :
       {"embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling"}) {
    refuse_foreign(fields, granite, key);
  }
  refuse_foreign(fields, spec.family->scaled_embedding, "query_pre_attn_scalar");
  refuse_foreign(fields, spec.family->rope_by_block, "no_rope_layers");
  refuse_foreign(fields, spec.family->local_rope, "rope_local_base_freq");
  if (granite) {
    spec.embedding_scale = fields.positive("embedding_multiplier", 1);
    spec.residual_scale = fields.positive("residual_multiplier", 1);
    spec.attention_scale = fields.positive("attention_multiplier", 1);
    spec.logit_scale = 1 / fields.positive("logits_scaling", 1);
  }
  if (spec.family->scaled_embedding) {
    // In float32, as transformers and llama.cpp have it when they compute in float32.
    spec.embedding_scale = static_cast<double>(std::sqrt(static_cast<float>(spec.hidden_size)));
    spec.attention_scale = 1 / std::sqrt(fields.positive("query_pre_attn_scalar", 256));
  }
}

/// An id, a list of ids, or null. An id that the model does not have can never come up, and is left out.
std::vector<std::int64_t> token_ids(const Fields& fields, std::string_view key, std::int64_t vocab_size) {
  const Json* value = fields.find(key);
  std::vector<std::int64_t> ids;
  if (value == nullptr) return ids;
  const Json listed = value->is_array() ? *value : Json::array({*value});
  for (const Json& each : listed) {
    const std::int64_t id = fields.integer_value(key, each, -max_vocab, max_vocab);
    if (id >= 0 && id < vocab_size) {
      ids.push_back(id);
    } else {
      log_warning("{}: {} {} is no token of the {} that the model has, and is ignored", fields.where(), key, id,
                  vocab_size);
    }
  }
  return ids;
}

void read_token_ids(const Fields& fields, ModelSpec& spec) {
  const auto bos = token_ids(fields, "bos_token_id", spec.vocab_size);
  if (!bos.empty()) spec.bos_token_id = bos[0];
  spec.eos_token_ids = token_ids(fields, "eos_token_id", spec.vocab_size);
  const FamilyRow& row = *spec.family;
  if (!fields.contains("bos_token_id")) spec.bos_token_id = row.bos_by_default;
  if (!fields.contains("eos_token_id") && row.eos_by_default) spec.eos_token_ids = {*row.eos_by_default};
}

}  // namespace

ModelSpec parse_config(const Json& config, std::string_view where) {
  const Fields fields(config, where);
  refuse_quantized(fields);
  const FamilyRow& row = family_of(fields);
  check_architecture(fields, row);
  check_activation(fields, row);
  refuse_unknown_arithmetic(fields);

  ModelSpec spec;
  spec.family = &row;
  spec.qkv_bias = row.qkv_bias;
  spec.qk_norm = row.qk_norm;
  spec.norm_placement = row.norm_placement;
  spec.norm_offset = row.norm_offset;
  spec.activation = row.activation;
  spec.hidden_size = fields.integer("hidden_size", 1, max_size);
  spec.intermediate_size = fields.integer("intermediate_size", 1, max_size);
  spec.block_count = fields.integer("num_hidden_layers", 1, max_blocks);
  spec.vocab_size = fields.integer("vocab_size", 1, max_vocab, row.vocab_by_default);
  spec.head_count = fields.integer("num_attention_heads", 1, max_size, row.heads_by_default);

  const bool as_heads = fields.contains("num_key_value_heads") || row.kv_heads_by_default == 0;
  spec.kv_head_count =
      fields.integer("num_key_value_heads", 1, max_size, as_heads ? spec.head_count : row.kv_heads_by_default);
  if (spec.head_count % spec.kv_head_count != 0) {
    fields.lie("num_attention_heads",
               fmt::format("= {} is not a multiple of num_key_value_heads = {}", spec.head_count, spec.kv_head_count));
  }
  if (fields.find("head_dim") == nullptr && row.head_dim_by_default == 0 && spec.hidden_size % spec.head_count != 0) {
    fields.lie("hidden_size",
               fmt::format("= {} is not a multiple of num_attention_heads = {}, and there is no head_dim",
                           spec.hidden_size, spec.head_count));
  }
  spec.head_dim =
      fields.integer("head_dim", 1, max_size,
                     row.head_dim_by_default > 0 ? row.head_dim_by_default : spec.hidden_size / spec.head_count);
  if (spec.head_dim % 2 != 0)
    fields.lie("head_dim", fmt::format("= {} is odd; rotary embeddings need pairs", spec.head_dim));
  if (spec.query_size() > max_size) {
    fields.lie("head_dim", fmt::format("= {} with {} heads is larger than any model", spec.head_dim, spec.head_count));
  }

  spec.max_positions = fields.integer("max_position_embeddings", 1, max_positions, row.positions_by_default);
  spec.rms_norm_eps = fields.positive("rms_norm_eps", 1e-6);
  spec.tied_embeddings = fields.boolean("tie_word_embeddings", row.tied_by_default);
  read_blocks(fields, spec);
  read_scales(fields, spec);
  read_token_ids(fields, spec);
  require_supported(spec, where);
  return spec;
}

void add_generation_config(ModelSpec& spec, const Json& generation_config, std::string_view where) {
  const Fields fields(generation_config, where);
  for (const std::int64_t id : token_ids(fields, "eos_token_id", spec.vocab_size)) {
    auto& ids = spec.eos_token_ids;
    if (std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
  }
}

}  // namespace pq::io
