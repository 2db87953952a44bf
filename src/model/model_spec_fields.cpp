#include <fmt/format.h>

#include <array>
#include <tuple>
#include <utility>

#include "base/error.h"
#include "model/model_spec.h"

namespace pq {
namespace {

/// Every member, so that the number of fields can be held to theirs: a member that is added to ModelSpec does not
/// compile before it stands here.
constexpr auto members(const ModelSpec& spec) {
  const auto& [family, hidden_size, intermediate_size, block_count, head_count, kv_head_count, head_dim, vocab_size,
               max_positions, rms_norm_eps, tied_embeddings, qkv_bias, block_pattern, rotary_width, norm_placement,
               norm_offset, qk_norm, attention_scale, score_soft_cap, activation, embedding_scale, residual_scale,
               logit_scale, logit_soft_cap, bos_token_id, eos_token_ids] = spec;
  return std::tie(family, hidden_size, intermediate_size, block_count, head_count, kv_head_count, head_dim, vocab_size,
                  max_positions, rms_norm_eps, tied_embeddings, qkv_bias, block_pattern, rotary_width, norm_placement,
                  norm_offset, qk_norm, attention_scale, score_soft_cap, activation, embedding_scale, residual_scale,
                  logit_scale, logit_soft_cap, bos_token_id, eos_token_ids);
}
constexpr std::size_t member_count = std::tuple_size_v<decltype(members(std::declval<ModelSpec>()))>;

template <typename E>
using Names = std::vector<std::pair<std::string_view, E>>;
const Names<Activation> activations{{"silu", Activation::silu}, {"gelu_tanh", Activation::gelu_tanh}};
const Names<NormPlacement> norm_placements{
    {"pre", NormPlacement::pre}, {"sandwich", NormPlacement::sandwich}, {"post", NormPlacement::post}};
const Names<QkNorm> qk_norms{{"none", QkNorm::none}, {"per_head", QkNorm::per_head}, {"all_heads", QkNorm::all_heads}};

[[noreturn]] void refuse(std::string_view key, const Json& value) {
  throw FormatError(fmt::format("field '{}'", key), fmt::format("{} is not one of its values", value.dump()));
}

template <typename T>
ModelSpecField plain(std::string_view key, bool computes, T ModelSpec::*member) {
  return {key, computes, [=](const ModelSpec& spec) { return Json(spec.*member); },
          [=](ModelSpec& spec, const Json& json) { spec.*member = json.get<T>(); }};
}

template <typename T>
ModelSpecField optional(std::string_view key, bool computes, std::optional<T> ModelSpec::*member) {
  return {key, computes, [=](const ModelSpec& spec) { return spec.*member ? Json(*(spec.*member)) : Json(nullptr); },
          [=](ModelSpec& spec, const Json& json) {
            (spec.*member).reset();
            if (!json.is_null()) spec.*member = json.get<T>();
          }};
}

template <typename E>
ModelSpecField choice(std::string_view key, E ModelSpec::*member, const Names<E>& names) {
  return {key, true,
          [=, &names](const ModelSpec& spec) {
            for (const auto& [name, value] : names) {
              if (value == spec.*member) return Json(name);
            }
            return Json(nullptr);
          },
          [=, &names](ModelSpec& spec, const Json& json) {
            for (const auto& [name, value] : names) {
              if (json == name) {
                spec.*member = value;
                return;
              }
            }
            refuse(key, json);
          }};
}

Json rope_to_json(const RopeSpec& rope) {
  if (const auto* plain_rope = std::get_if<PlainRope>(&rope)) return {{"kind", "plain"}, {"theta", plain_rope->theta}};
  if (const auto* linear = std::get_if<LinearRope>(&rope)) {
    return {{"kind", "linear"}, {"theta", linear->theta}, {"factor", linear->factor}};
  }
  if (const auto* yarn = std::get_if<YarnRope>(&rope)) {
    return {{"kind", "yarn"},
            {"theta", yarn->theta},
            {"factor", yarn->factor},
            {"beta_fast", yarn->beta_fast},
            {"beta_slow", yarn->beta_slow},
            {"original_positions", yarn->original_positions},
            {"truncate", yarn->truncate},
            {"amplitude", yarn->amplitude}};
  }
  if (const auto* own = std::get_if<LongRope>(&rope)) {
    return {{"kind", "long"}, {"theta", own->theta}, {"factors", own->factors}, {"amplitude", own->amplitude}};
  }
  const auto* scaled = std::get_if<ScaledRope>(&rope);
  if (scaled == nullptr) return {{"kind", "none"}};
  return {{"kind", "scaled"},
          {"theta", scaled->theta},
          {"factor", scaled->factor},
          {"low_frequency_factor", scaled->low_frequency_factor},
          {"high_frequency_factor", scaled->high_frequency_factor},
          {"original_positions", scaled->original_positions}};
}

RopeSpec rope_from_json(const Json& json) {
  const Json& kind = json.at("kind");
  if (kind == "none") return NoRope{};
  if (kind == "plain") return PlainRope{json.at("theta").get<double>()};
  const auto number = [&](const char* key) { return json.at(key).get<double>(); };
  if (kind == "linear") return LinearRope{number("theta"), number("factor")};
  if (kind == "scaled") {
    return ScaledRope{number("theta"), number("factor"), number("low_frequency_factor"),
                      number("high_frequency_factor"), json.at("original_positions").get<std::int64_t>()};
  }
  if (kind == "yarn") {
    return YarnRope{number("theta"),
                    number("factor"),
                    number("beta_fast"),
                    number("beta_slow"),
                    json.at("original_positions").get<std::int64_t>(),
                    json.at("truncate").get<bool>(),
                    number("amplitude")};
  }
  if (kind != "long") refuse("block_pattern", json);
  return LongRope{number("theta"), json.at("factors").get<std::vector<double>>(), number("amplitude")};
}

ModelSpecField block_pattern() {
  return {"block_pattern", true,
          [](const ModelSpec& spec) {
            Json rows = Json::array();
            for (const BlockSpec& block : spec.block_pattern) {
              rows.push_back({{"window", block.window}, {"rope", rope_to_json(block.rope)}});
            }
            return rows;
          },
          [](ModelSpec& spec, const Json& json) {
            spec.block_pattern.clear();
            for (const Json& row : json) {
              spec.block_pattern.push_back({row.at("window").get<std::int64_t>(), rope_from_json(row.at("rope"))});
            }
          }};
}

ModelSpecField family() {
  return {"family", true, [](const ModelSpec& spec) { return Json(spec.family->model_type); },
          [](ModelSpec& spec, const Json& json) {
            const FamilyRow* row = find_family(json.get<std::string>());
            if (row == nullptr) refuse("family", json);
            spec.family = row;
          }};
}

auto make_fields() {
  return std::to_array<ModelSpecField>({
      family(),
      plain("hidden_size", true, &ModelSpec::hidden_size),
      plain("intermediate_size", true, &ModelSpec::intermediate_size),
      plain("block_count", true, &ModelSpec::block_count),
      plain("head_count", true, &ModelSpec::head_count),
      plain("kv_head_count", true, &ModelSpec::kv_head_count),
      plain("head_dim", true, &ModelSpec::head_dim),
      plain("vocab_size", true, &ModelSpec::vocab_size),
      plain("max_positions", false, &ModelSpec::max_positions),
      plain("rms_norm_eps", true, &ModelSpec::rms_norm_eps),
      plain("tied_embeddings", false, &ModelSpec::tied_embeddings),
      plain("qkv_bias", true, &ModelSpec::qkv_bias),
      block_pattern(),
      optional("rotary_width", true, &ModelSpec::rotary_width),
      choice("norm_placement", &ModelSpec::norm_placement, norm_placements),
      plain("norm_offset", true, &ModelSpec::norm_offset),
      choice("qk_norm", &ModelSpec::qk_norm, qk_norms),
      optional("attention_scale", true, &ModelSpec::attention_scale),
      plain("score_soft_cap", true, &ModelSpec::score_soft_cap),
      choice("activation", &ModelSpec::activation, activations),
      plain("embedding_scale", true, &ModelSpec::embedding_scale),
      plain("residual_scale", true, &ModelSpec::residual_scale),
      plain("logit_scale", true, &ModelSpec::logit_scale),
      plain("logit_soft_cap", true, &ModelSpec::logit_soft_cap),
      optional("bos_token_id", false, &ModelSpec::bos_token_id),
      plain("eos_token_ids", false, &ModelSpec::eos_token_ids),
  });
}

}  // namespace

const std::vector<ModelSpecField>& model_spec_fields() {
  static_assert(std::tuple_size_v<decltype(make_fields())> == member_count, "a member of ModelSpec has no field");
  static const auto rows = make_fields();
  static const std::vector<ModelSpecField> fields(rows.begin(), rows.end());
  return fields;
}

}  // namespace pq
