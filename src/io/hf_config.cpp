#include "io/hf_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"

namespace pq::io {
namespace {

// Limits beyond any model of these families; below them no product of two sizes overflows 63 bits.
constexpr std::int64_t max_size = std::int64_t{1} << 24;
constexpr std::int64_t max_blocks = 4096;
constexpr std::int64_t max_vocab = std::int64_t{1} << 27;
constexpr std::int64_t max_positions = std::int64_t{1} << 31;

/// Reads fields of one JSON object, with errors that name file and field.
class Fields {
 public:
  Fields(const Json& json, std::string_view where) : json_(json), where_(where) {
    if (!json.is_object()) throw FormatError(where, "is not a JSON object", "fetch the file again");
  }

  /// Null for an absent field and for one that is null.
  const Json* find(std::string_view key) const {
    const auto found = json_.find(key);
    return found == json_.end() || found->is_null() ? nullptr : &*found;
  }
  bool contains(std::string_view key) const { return json_.contains(key); }

  std::int64_t integer(std::string_view key, std::int64_t low, std::int64_t high,
                       std::optional<std::int64_t> absent = {}) const {
    const Json* value = find(key);
    if (value == nullptr) {
      if (absent) return *absent;
      lie(key, "is missing");
    }
    return integer_value(key, *value, low, high);
  }

  std::int64_t integer_value(std::string_view key, const Json& value, std::int64_t low, std::int64_t high) const {
    const bool unsigned_overflow =
        value.is_number_unsigned() && value.get<std::uint64_t>() > static_cast<std::uint64_t>(high);
    if (!value.is_number_integer() || unsigned_overflow || value.get<std::int64_t>() < low ||
        value.get<std::int64_t>() > high) {
      lie(key, fmt::format("is {}, not an integer from {} to {}", brief(value), low, high));
    }
    return value.get<std::int64_t>();
  }

  double positive(std::string_view key, double absent) const {
    const Json* value = find(key);
    if (value == nullptr) return absent;
    if (!value->is_number() || !std::isfinite(value->get<double>()) || value->get<double>() <= 0) {
      lie(key, fmt::format("is {}, not a number above 0", brief(*value)));
    }
    return value->get<double>();
  }

  bool boolean(std::string_view key, bool absent) const {
    const Json* value = find(key);
    if (value == nullptr) return absent;
    if (!value->is_boolean()) lie(key, fmt::format("is {}, not true or false", brief(*value)));
    return value->get<bool>();
  }

  std::string string(std::string_view key) const {
    const Json* value = find(key);
    if (value == nullptr) lie(key, "is missing");
    if (!value->is_string()) lie(key, fmt::format("is {}, not a string", brief(*value)));
    return value->get<std::string>();
  }

  [[noreturn]] void lie(std::string_view key, std::string_view what) const {
    throw FormatError(where_, fmt::format("field '{}' {}", key, what), "fetch the original config.json");
  }
  [[noreturn]] void refuse(std::string_view key, const Json& value) const {
    throw UnsupportedError(
        where_, fmt::format("field '{}' = {} changes the arithmetic and is not supported", key, brief(value)),
        "choose a model without it");
  }

  static std::string brief(const Json& value) {
    std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
    if (text.size() > 60) text = text.substr(0, 57) + "...";
    return text;
  }

  const Json& json() const { return json_; }
  std::string_view where() const { return where_; }

 private:
  const Json& json_;
  std::string_view where_;
};

/// Fields that are read below, each with its own checks.
constexpr std::array known_fields{"architectures",
                                  "model_type",
                                  "hidden_act",
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
                                  "partial_rotary_factor",
                                  "sliding_window",
                                  "use_sliding_window",
                                  "max_window_layers",
                                  "layer_types",
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
constexpr std::array harmless_parts{"dropout",           "pdrop",  "initializer",   "aux_loss",
                                    "loss_coef",         "z_loss", "max_lora_rank", "original_max_position_embeddings",
                                    "num_logits_to_keep"};

bool contains_any(std::string_view name, const auto& parts) {
  return std::any_of(parts.begin(), parts.end(),
                     [&](const char* part) { return name.find(part) != std::string_view::npos; });
}

/// A value that switches a field off: null, false, an empty list, or 1 for something that multiplies.
bool is_neutral(std::string_view name, const Json& value) {
  if (value.is_null() || value == false) return true;
  if ((value.is_array() || value.is_object() || value.is_string()) && value.empty()) return true;
  if (!value.is_number()) return false;
  constexpr std::array multiplies{"scal", "multipl", "factor"};
  if (contains_any(name, multiplies)) return value.get<double>() == 1.0;
  constexpr std::array counts{"expert", "softcap", "window", "cap"};
  return contains_any(name, counts) && value.get<double>() == 0.0;
}

void refuse_unknown_arithmetic(const Fields& fields) {
  for (const auto& [name, value] : fields.json().items()) {
    if (std::find(known_fields.begin(), known_fields.end(), std::string_view(name)) != known_fields.end()) continue;
    if (!contains_any(name, arithmetic_parts) || contains_any(name, harmless_parts)) continue;
    if (!is_neutral(name, value)) fields.refuse(name, value);
  }
}

void refuse_quantized(const Fields& fields) {
  for (const std::string_view key : {"quantization_config", "compression_config"}) {
    const Json* value = fields.find(key);
    if (value == nullptr) continue;
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
  if (first == row.architecture) return;
  throw UnsupportedError(fields.where(), fmt::format("architecture {} is not supported", Fields::brief(first)),
                         fmt::format("supported for {}: {}", row.model_type, row.architecture));
}

/// One of the two spellings of the rotary settings: `rope_scaling` of old, `rope_parameters` of transformers 5.
void check_rope(const Fields& fields, std::string_view key) {
  const Json* value = fields.find(key);
  if (value == nullptr || (value->is_object() && value->empty())) return;
  if (!value->is_object()) fields.lie(key, fmt::format("is {}, not an object", Fields::brief(*value)));
  for (const auto& [name, setting] : value->items()) {
    const std::string full = fmt::format("{}.{}", key, name);
    if (setting.is_null() || name == "rope_theta") continue;
    const bool type = name == "rope_type" || name == "type";
    if (type && setting == "default") continue;
    if (name == "partial_rotary_factor" && setting == 1.0) continue;
    fields.refuse(full, setting);
  }
}

/// As in transformers: `rope_scaling` goes before `rope_parameters`, and a rope_theta inside it before the one outside.
double read_rope(const Fields& fields) {
  check_rope(fields, "rope_scaling");
  check_rope(fields, "rope_parameters");
  const Json* partial = fields.find("partial_rotary_factor");
  if (partial != nullptr && *partial != 1.0) fields.refuse("partial_rotary_factor", *partial);
  const double outside = fields.positive("rope_theta", 10000.0);
  for (const std::string_view key : {"rope_scaling", "rope_parameters"}) {
    const Json* value = fields.find(key);
    if (value != nullptr && !value->empty()) {
      return Fields(*value, fmt::format("{}: {}", fields.where(), key)).positive("rope_theta", outside);
    }
  }
  return outside;
}

/// Windows and rotary embeddings of the blocks.
void read_blocks(const Fields& fields, ModelSpec& spec) {
  const SlidingRule& rule = spec.family->sliding;
  const RopeSpec rope = PlainRope{read_rope(fields)};
  const bool on = !rule.switched_on || fields.boolean("use_sliding_window", *rule.switched_on);
  const std::int64_t window_by_default = fields.contains("sliding_window") ? 0 : rule.window_by_default;
  const std::int64_t window = on ? fields.integer("sliding_window", 1, max_positions, window_by_default) : 0;
  if (window != 0 && !rule.supported) fields.refuse("sliding_window", Json(window));
  std::int64_t full = 0;  // blocks before the first with a window
  if (window != 0 && rule.first_block) {
    full = std::min(fields.integer("max_window_layers", 0, max_size, *rule.first_block), spec.block_count);
  }
  spec.block_pattern.assign(1, {window, rope});
  if (full > 0) {
    spec.block_pattern.assign(static_cast<std::size_t>(spec.block_count), {window, rope});
    std::fill_n(spec.block_pattern.begin(), full, BlockSpec{0, rope});
  }
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

/// An id, a list of ids, or null.
std::vector<std::int64_t> token_ids(const Fields& fields, std::string_view key, std::int64_t vocab_size) {
  const Json* value = fields.find(key);
  std::vector<std::int64_t> ids;
  if (value == nullptr) return ids;
  if (!value->is_array()) return {fields.integer_value(key, *value, 0, vocab_size - 1)};
  for (const Json& id : *value) ids.push_back(fields.integer_value(key, id, 0, vocab_size - 1));
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
  if (const Json* act = fields.find("hidden_act"); act != nullptr && *act != "silu") fields.refuse("hidden_act", *act);
  refuse_unknown_arithmetic(fields);

  ModelSpec spec;
  spec.family = &row;
  spec.qkv_bias = row.qkv_bias;
  spec.hidden_size = fields.integer("hidden_size", 1, max_size);
  spec.intermediate_size = fields.integer("intermediate_size", 1, max_size);
  spec.block_count = fields.integer("num_hidden_layers", 1, max_blocks);
  spec.vocab_size = fields.integer("vocab_size", 1, max_vocab);
  spec.head_count = fields.integer("num_attention_heads", 1, max_size);

  const bool as_heads = fields.contains("num_key_value_heads") || row.kv_heads_by_default == 0;
  spec.kv_head_count =
      fields.integer("num_key_value_heads", 1, max_size, as_heads ? spec.head_count : row.kv_heads_by_default);
  if (spec.head_count % spec.kv_head_count != 0) {
    fields.lie("num_attention_heads",
               fmt::format("= {} is not a multiple of num_key_value_heads = {}", spec.head_count, spec.kv_head_count));
  }
  if (fields.find("head_dim") == nullptr && spec.hidden_size % spec.head_count != 0) {
    fields.lie("hidden_size",
               fmt::format("= {} is not a multiple of num_attention_heads = {}, and there is no head_dim",
                           spec.hidden_size, spec.head_count));
  }
  spec.head_dim = fields.integer("head_dim", 1, max_size, spec.hidden_size / spec.head_count);
  if (spec.head_dim % 2 != 0)
    fields.lie("head_dim", fmt::format("= {} is odd; rotary embeddings need pairs", spec.head_dim));
  if (spec.query_size() > max_size) {
    fields.lie("head_dim", fmt::format("= {} with {} heads is larger than any model", spec.head_dim, spec.head_count));
  }

  spec.max_positions = fields.integer("max_position_embeddings", 1, max_positions, row.positions_by_default);
  spec.rms_norm_eps = fields.positive("rms_norm_eps", 1e-6);
  spec.tied_embeddings = fields.boolean("tie_word_embeddings", false);
  read_blocks(fields, spec);
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
