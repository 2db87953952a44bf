#include "io/rope_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <string>
#include <vector>

namespace pq::io {
namespace {

constexpr std::int64_t most_positions = std::int64_t{1} << 31;

/// One object of rotary settings, or none.
class RopeFields {
 public:
  RopeFields(const Json* json, const std::string& where, double theta)
      : json_(json != nullptr ? *json : Json::object()), where_(where), fields_(json_, where_), outer_theta_(theta) {}

  std::string kind() const {
    for (const char* key : {"rope_type", "type"}) {
      if (fields_.find(key) != nullptr) return fields_.string(key);
    }
    return "default";
  }
  double theta() const { return fields_.positive("rope_theta", outer_theta_); }
  const Fields& fields() const { return fields_; }
  double required(std::string_view key) const {
    if (fields_.find(key) == nullptr) fields_.lie(key, fmt::format("is missing, which rope_type '{}' needs", kind()));
    return fields_.positive(key, 1);
  }
  std::vector<double> factors(std::string_view key, std::size_t wanted) const {
    const Json* list = fields_.find(key);
    if (list == nullptr || !list->is_array() || list->size() != wanted) {
      fields_.lie(key, fmt::format("is not a list of {} factors, one a pair of channels", wanted));
    }
    std::vector<double> values;
    for (const Json& value : *list) {
      if (!value.is_number() || !(value.get<double>() > 0) || !std::isfinite(value.get<double>())) {
        fields_.lie(key, fmt::format("holds {}, not a number above 0", Fields::brief(value)));
      }
      values.push_back(value.get<double>());
    }
    return values;
  }
  /// Refuses every field that is not null, none of `known` and not one that all kinds have.
  void refuse_others(std::span<const std::string_view> known) const {
    constexpr std::array<std::string_view, 4> common{"rope_theta", "rope_type", "type", "partial_rotary_factor"};
    for (const auto& [name, value] : json_.items()) {
      const auto is = [&name = name](std::string_view key) { return key == name; };
      const bool neutral = value.is_null() || (name == "factor" && value == 1.0);
      if (neutral || std::any_of(common.begin(), common.end(), is) || std::any_of(known.begin(), known.end(), is))
        continue;
      fields_.refuse(name, value);
    }
  }

 private:
  Json json_;
  std::string where_;
  Fields fields_;
  double outer_theta_;
};

/// `original_max_position_embeddings`, which the config may have outside of the rotary settings; that goes first.
std::int64_t original_positions(const Fields& config, const RopeFields& rope, std::int64_t absent) {
  constexpr std::string_view key = "original_max_position_embeddings";
  if (config.find(key) != nullptr) return config.integer(key, 1, most_positions);
  return rope.fields().integer(key, 1, most_positions, absent);
}

double yarn_scale(double factor, double of) { return factor <= 1 ? 1 : 0.1 * of * std::log(factor) + 1; }

YarnRope read_yarn(const Fields& config, const RopeFields& rope, const ModelSpec& spec) {
  constexpr std::array<std::string_view, 8> known{"factor",           "original_max_position_embeddings",
                                                  "attention_factor", "beta_fast",
                                                  "beta_slow",        "truncate",
                                                  "mscale",           "mscale_all_dim"};
  rope.refuse_others(known);
  YarnRope yarn{.theta = rope.theta(), .factor = rope.required("factor")};
  yarn.original_positions = original_positions(config, rope, spec.max_positions);
  yarn.beta_fast = rope.fields().positive("beta_fast", 32);
  yarn.beta_slow = rope.fields().positive("beta_slow", 1);
  yarn.truncate = rope.fields().boolean("truncate", true);
  yarn.amplitude = yarn_scale(yarn.factor, 1);
  if (rope.fields().find("mscale") != nullptr && rope.fields().find("mscale_all_dim") != nullptr) {
    yarn.amplitude = yarn_scale(yarn.factor, rope.fields().positive("mscale", 1)) /
                     yarn_scale(yarn.factor, rope.fields().positive("mscale_all_dim", 1));
  }
  yarn.amplitude = rope.fields().positive("attention_factor", yarn.amplitude);
  return yarn;
}

LongRope read_long(const Fields& config, const RopeFields& rope, const ModelSpec& spec, std::int64_t width,
                   std::int64_t context, std::int64_t& positions) {
  constexpr std::array<std::string_view, 5> known{"short_factor", "long_factor", "attention_factor", "factor",
                                                  "original_max_position_embeddings"};
  rope.refuse_others(known);
  const std::int64_t original = original_positions(config, rope, spec.max_positions);
  const auto pairs = static_cast<std::size_t>(width / 2);
  const bool beyond = context > original;
  LongRope own{.theta = rope.theta(), .factors = rope.factors(beyond ? "long_factor" : "short_factor", pairs)};
  rope.factors(beyond ? "short_factor" : "long_factor", pairs);  // both must be right
  const double stretch =
      rope.fields().positive("factor", static_cast<double>(spec.max_positions) / static_cast<double>(original));
  if (stretch > 1) own.amplitude = std::sqrt(1 + std::log(stretch) / std::log(static_cast<double>(original)));
  own.amplitude = rope.fields().positive("attention_factor", own.amplitude);
  if (!beyond) positions = std::min(positions, original);
  return own;
}

RopeSpec read_rope(const Fields& config, const RopeFields& rope, const ModelSpec& spec, std::int64_t width,
                   std::int64_t context, std::int64_t& positions) {
  const std::string kind = rope.kind();
  if (kind == "default") {
    rope.refuse_others({});
    return PlainRope{rope.theta()};
  }
  if (kind == "linear") {
    constexpr std::array<std::string_view, 1> known{"factor"};
    rope.refuse_others(known);
    return LinearRope{rope.theta(), rope.required("factor")};
  }
  if (kind == "llama3") {
    constexpr std::array<std::string_view, 4> known{"factor", "low_freq_factor", "high_freq_factor",
                                                    "original_max_position_embeddings"};
    rope.refuse_others(known);
    const ScaledRope scaled{rope.theta(), rope.required("factor"), rope.required("low_freq_factor"),
                            rope.required("high_freq_factor"),
                            rope.fields().integer("original_max_position_embeddings", 1, most_positions)};
    if (scaled.high_frequency_factor <= scaled.low_frequency_factor) {
      rope.fields().lie("high_freq_factor", "is not above low_freq_factor");
    }
    return scaled;
  }
  if (kind == "yarn") return read_yarn(config, rope, spec);
  if (kind == "longrope" || kind == "su") return read_long(config, rope, spec, width, context, positions);
  throw UnsupportedError(rope.fields().where(), fmt::format("field 'rope_type' = \"{}\" is not supported", kind),
                         "supported: default, linear, llama3, yarn, longrope");
}

/// The first of the two spellings that says something; as in transformers, `rope_scaling` goes before.
struct Spelling {
  std::string_view key = "rope_parameters";
  const Json* object = nullptr;
};
Spelling spelling_of(const Fields& fields) {
  for (const std::string_view key : {"rope_scaling", "rope_parameters"}) {
    const Json* value = fields.find(key);
    if (value == nullptr || (value->is_object() && value->empty())) continue;
    if (!value->is_object()) fields.lie(key, fmt::format("is {}, not an object", Fields::brief(*value)));
    return {key, value};
  }
  return {};
}

/// Channels that turn: `partial_rotary_factor` of the head, inside the settings or outside.
std::optional<std::int64_t> read_width(const Fields& fields, const Json* settings, const ModelSpec& spec) {
  constexpr std::string_view key = "partial_rotary_factor";
  const auto share_in = [&](const Json* value, const std::string& name) {
    if (value == nullptr || value->is_null() || *value == 1.0) return 1.0;
    if (!spec.family->partial_rotary) fields.refuse(name, *value);
    if (!value->is_number() || !(value->get<double>() > 0) || value->get<double>() > 1) {
      fields.lie(name, fmt::format("is {}, not a share of a head", Fields::brief(*value)));
    }
    return value->get<double>();
  };
  double share = share_in(fields.find(key), std::string(key));
  if (settings != nullptr && settings->contains(key)) {
    share = std::min(share, share_in(&(*settings)[std::string(key)], fmt::format("rope_parameters.{}", key)));
  }
  if (share == 1) return std::nullopt;
  const auto width = static_cast<std::int64_t>(static_cast<double>(spec.head_dim) * share);
  if (width < 2 || width % 2 != 0) fields.lie(key, fmt::format("makes {} of {} channels turn", width, spec.head_dim));
  return width;
}

}  // namespace

RopeSettings read_ropes(const Fields& fields, const ModelSpec& spec, std::int64_t context) {
  const Spelling spelling = spelling_of(fields);
  RopeSettings settings;
  settings.max_positions = spec.max_positions;
  settings.width = read_width(fields, spelling.object, spec);
  const std::int64_t width = settings.width.value_or(spec.head_dim);
  const double theta = fields.positive("rope_theta", spec.family->theta_by_default);
  const std::string where = fmt::format("{}: {}", fields.where(), spelling.key);
  const auto rope = [&](const Json* object, const std::string& name, double outer_theta) {
    return read_rope(fields, RopeFields(object, name, outer_theta), spec, width, context, settings.max_positions);
  };
  const Json* object = spelling.object;
  const bool by_type = spec.family->local_rope && object != nullptr && object->contains("full_attention");
  if (by_type) {
    for (const auto& [name, value] : object->items()) {
      if (name != "full_attention" && name != "sliding_attention")
        fields.refuse(fmt::format("rope_parameters.{}", name), value);
      if (!value.is_object()) fields.lie(fmt::format("rope_parameters.{}", name), "is not an object");
    }
    settings.full = rope(&(*object)["full_attention"], where + ".full_attention", theta);
    if (object->contains("sliding_attention")) {
      settings.sliding = rope(&(*object)["sliding_attention"], where + ".sliding_attention", 10000);
    }
    return settings;
  }
  settings.full = rope(object, where, theta);
  if (spec.family->local_rope) settings.sliding = PlainRope{fields.positive("rope_local_base_freq", 10000)};
  return settings;
}

}  // namespace pq::io
