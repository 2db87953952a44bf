#include <fmt/format.h>

#include <charconv>
#include <type_traits>
#include <utility>

#include "base/error.h"
#include "base/suggest.h"
#include "model/recipe.h"

namespace pq {
namespace {

[[noreturn]] void refuse(const std::string& key, std::string_view value, const std::string& allowed) {
  throw InputError(fmt::format("recipe field {}", key), fmt::format("'{}' is not allowed", value),
                   fmt::format("allowed: {}", allowed));
}

template <typename T>
T parse_number(const std::string& key, std::string_view text, const std::string& allowed) {
  T value{};
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc{} || end != text.data() + text.size()) refuse(key, text, allowed);
  return value;
}

template <typename T, typename Access>
RecipeField number(std::string key, std::string help, Access access, T low, T high, std::string allowed = {}) {
  if (allowed.empty()) allowed = fmt::format("{} to {}", low, high);
  return {key, allowed, std::move(help),
          [=](Recipe& recipe, std::string_view text) {
            const T value = parse_number<T>(key, text, allowed);
            if (!(value >= low && value <= high)) refuse(key, text, allowed);
            access(recipe) = static_cast<std::decay_t<decltype(access(recipe))>>(value);
          },
          [=](const Recipe& recipe) { return Json(access(recipe)); }};
}

template <typename Access>
RecipeField bits(std::string key, std::string help, Access access) {
  const std::string allowed = "2 to 8, or 16 for none";
  return {key, allowed, std::move(help),
          [=](Recipe& recipe, std::string_view text) {
            const int value = parse_number<int>(key, text, allowed);
            if ((value < 2 || value > 8) && value != 16) refuse(key, text, allowed);
            access(recipe) = value;
          },
          [=](const Recipe& recipe) { return Json(access(recipe)); }};
}

void set_flag(bool& target, const std::string& key, std::string_view text, const std::string& allowed) {
  if (text != "true" && text != "false" && text != "1" && text != "0") refuse(key, text, allowed);
  target = text == "true" || text == "1";
}

template <typename Access>
RecipeField flag(std::string key, std::string help, Access access) {
  const std::string allowed = "true or false";
  return {key, allowed, std::move(help),
          [=](Recipe& recipe, std::string_view text) { set_flag(access(recipe), key, text, allowed); },
          [=](const Recipe& recipe) { return Json(access(recipe)); }};
}

template <typename Access>
RecipeField clip(std::string key, Access access) {
  return number<double>(std::move(key),
                        "factor of the range where the search is off (symmetric 4 bits: absmax scales are 15/14)",
                        access, 0.05, 2.0);
}

template <typename Access>
RecipeField word(std::string key, std::string values, std::string help, Access access) {
  return {key, std::move(values), std::move(help),
          [=](Recipe& recipe, std::string_view text) { access(recipe) = std::string(text); },
          [=](const Recipe& recipe) { return Json(access(recipe)); }};
}

template <typename E, typename Access>
RecipeField choice(std::string key, std::string help, Access access, std::vector<std::pair<std::string, E>> options,
                   const std::vector<std::pair<std::string, E>>& other_spellings = {}) {
  std::vector<std::string> names;
  for (const auto& option : options) names.push_back(option.first);
  std::string allowed = names[0];
  for (std::size_t i = 1; i < names.size(); ++i) allowed += ", " + names[i];
  options.insert(options.end(), other_spellings.begin(), other_spellings.end());
  return {key, allowed, std::move(help),
          [=](Recipe& recipe, std::string_view text) {
            for (const auto& [name, value] : options) {
              if (name == text) {
                access(recipe) = value;
                return;
              }
            }
            throw InputError(fmt::format("recipe field {}", key), fmt::format("'{}' is not allowed", text),
                             did_you_mean(text, names));
          },
          [=](const Recipe& recipe) {
            for (const auto& [name, value] : options) {
              if (value == access(recipe)) return Json(name);
            }
            return Json(nullptr);
          }};
}

const std::vector<std::pair<std::string, ScaleMode>> modes{{"static", ScaleMode::static_scale},
                                                           {"dynamic", ScaleMode::dynamic_scale}};

std::vector<RecipeField> make_fields() {
  using std::int64_t;
  const int64_t big = 1 << 20;
  return {
      word(
          "name", "any", "name shown in tables", [](auto& r) -> auto& { return r.name; }),
      bits(
          "weight.bits", "bits of the linear layers' weights", [](auto& r) -> auto& { return r.weight.bits; }),
      choice<Granularity>("weight.granularity", "what shares a weight scale",
                          [](auto& r) -> auto& { return r.weight.granularity; },
                          {{"channel", Granularity::channel}, {"group", Granularity::group}}),
      number<int64_t>(
          "weight.group", "input channels in a weight group", [](auto& r) -> auto& { return r.weight.group; }, 0, big,
          "0 to 1048576; a last, shorter group takes the rest"),
      flag(
          "weight.two_level", "whole group scales of 1 to 16 over a float channel scale (QoQ): integer products",
          [](auto& r) -> auto& { return r.weight.two_level; }),
      choice<ScaleType>("weight.scale_type",
                        "float that weight scales are; 16-bit ones, with zero points among the codes, export exactly",
                        [](auto& r) -> auto& { return r.weight.scale_type; },
                        {{"float32", ScaleType::float32}, {"f16", ScaleType::f16}, {"bf16", ScaleType::bf16}}),
      flag(
          "weight.symmetric", "no zero points for weights", [](auto& r) -> auto& { return r.weight.symmetric; }),
      clip(
          "weight.clip", [](auto& r) -> auto& { return r.weight.clip; }),
      bits(
          "activation.bits", "bits of the linear layers' inputs", [](auto& r) -> auto& { return r.activation.bits; }),
      choice<ScaleMode>(
          "activation.mode", "when activation scales are computed", [](auto& r) -> auto& { return r.activation.mode; },
          modes),
      choice<Granularity>(
          "activation.granularity", "what shares an activation scale",
          [](auto& r) -> auto& { return r.activation.granularity; },
          {{"tensor", Granularity::tensor}, {"token", Granularity::token}, {"group", Granularity::group}}),
      number<int64_t>(
          "activation.group", "channels in an activation group", [](auto& r) -> auto& { return r.activation.group; }, 1,
          big),
      flag(
          "activation.symmetric", "no zero points for activations",
          [](auto& r) -> auto& { return r.activation.symmetric; }),
      clip(
          "activation.clip", [](auto& r) -> auto& { return r.activation.clip; }),
      bits(
          "kv.bits", "bits of the KV cache", [](auto& r) -> auto& { return r.kv.bits; }),
      choice<ScaleMode>(
          "kv.mode", "when KV scales are computed", [](auto& r) -> auto& { return r.kv.mode; }, modes),
      choice<Granularity>("kv.granularity", "what shares a KV scale", [](auto& r) -> auto& { return r.kv.granularity; },
                          {{"head", Granularity::head}, {"token", Granularity::token}, {"group", Granularity::group}}),
      number<int64_t>(
          "kv.group", "channels in a KV group (a head's, where it is smaller)",
          [](auto& r) -> auto& { return r.kv.group; }, 1, big),
      {"kv.symmetric", "true, false or auto", "no zero points for the KV cache; auto: calibration decides",
       [](Recipe& recipe, std::string_view text) {
         recipe.kv_symmetry_by_calibration = text == "auto";
         if (text != "auto") set_flag(recipe.kv.symmetric, "kv.symmetric", text, "true, false or auto");
       },
       [](const Recipe& recipe) {
         return recipe.kv_symmetry_by_calibration ? Json("auto") : Json(recipe.kv.symmetric);
       }},
      clip(
          "kv.clip", [](auto& r) -> auto& { return r.kv.clip; }),
      flag(
          "kv.center_keys", "take each channel's mean out of K, which softmax does not see; measured with search.kv",
          [](auto& r) -> auto& { return r.kv_center_keys; }),
      flag(
          "kv.balance_keys", "put each head's K in a basis in which it spreads as Q does; measured with search.kv",
          [](auto& r) -> auto& { return r.kv_balance_keys; }),
      choice<ResidualRotation>(
          "rotate.r1", "rotate the residual stream: fused into the weights, or online at the inputs that read it",
          [](auto& r) -> auto& { return r.rotate.r1; },
          {{"auto", ResidualRotation::automatic},
           {"fused", ResidualRotation::fused},
           {"online", ResidualRotation::online},
           {"none", ResidualRotation::none}},
          {{"true", ResidualRotation::automatic}, {"false", ResidualRotation::none}}),
      flag(
          "rotate.r2", "rotate V and o_proj per head (fused)", [](auto& r) -> auto& { return r.rotate.r2; }),
      flag(
          "rotate.r3", "rotate Q and K after RoPE (online)", [](auto& r) -> auto& { return r.rotate.r3; }),
      flag(
          "rotate.r4", "rotate the input of down_proj (online)", [](auto& r) -> auto& { return r.rotate.r4; }),
      flag(
          "rotate.heads", "rotate the input of o_proj over all heads (online)",
          [](auto& r) -> auto& { return r.rotate.heads; }),
      flag(
          "rotate.signs", "random signs in front of R2 and R4, as R1 has them (fused)",
          [](auto& r) -> auto& { return r.rotate.signs; }),
      word(
          "prefix.tokens", "auto, none, ids:1,2, random:N, top1:N, or text", "the prefix",
          [](auto& r) -> auto& { return r.prefix.tokens; }),
      number<int64_t>(
          "prefix.count", "number of prefix tokens, BOS included", [](auto& r) -> auto& { return r.prefix.count; }, -1,
          64, "0 to 64, or -1 for as many as were found"),
      number<double>(
          "prefix.upper_threshold", "ratio to the median above which a token is an upper outlier",
          [](auto& r) -> auto& { return r.prefix.upper_threshold; }, 1.0, 1e6),
      number<double>(
          "prefix.lower_threshold", "a token below 1/this of the median is a lower outlier",
          [](auto& r) -> auto& { return r.prefix.lower_threshold; }, 1.0, 1e6),
      number<double>(
          "prefix.min_frequency", "share of the sequences below which an outlier id is noise",
          [](auto& r) -> auto& { return r.prefix.min_frequency; }, 0.0, 1.0),
      flag(
          "search.weight", "grid search of weight clip factors", [](auto& r) -> auto& { return r.search.weight; }),
      flag(
          "search.activation", "grid search of activation scales",
          [](auto& r) -> auto& { return r.search.activation; }),
      flag(
          "search.kv", "grid search of KV scales", [](auto& r) -> auto& { return r.search.kv; }),
      flag(
          "search.gptq", "round weights with error compensation (GPTQ), not each to its nearest code",
          [](auto& r) -> auto& { return r.search.gptq; }),
      number<double>(
          "search.weight_step", "step of the weight clip factor", [](auto& r) -> auto& { return r.search.weight_step; },
          0.001, 0.5),
      number<double>(
          "search.weight_min", "smallest weight clip factor", [](auto& r) -> auto& { return r.search.weight_min; },
          0.05, 1.0),
      number<int64_t>(
          "search.samples", "sequences for the grid search", [](auto& r) -> auto& { return r.search.samples; }, 1, big),
      number<int64_t>(
          "search.length", "tokens in each of them", [](auto& r) -> auto& { return r.search.length; }, 2, big),
      number<int64_t>(
          "search.positions", "how far behind the prefix K is looked at (at most the model's context)",
          [](auto& r) -> auto& { return r.search.positions; }, 1, big),
      number<int64_t>(
          "search.gptq_samples", "sequences that GPTQ rounds the weights by (the field's habit: 128)",
          [](auto& r) -> auto& { return r.search.gptq_samples; }, 0, big, "0 for those of the search, to 1048576"),
      number<int64_t>(
          "search.gptq_length", "tokens in each of them", [](auto& r) -> auto& { return r.search.gptq_length; }, 2,
          big),
      flag(
          "search.exhaustive", "every point of the grids, each through the whole block: slow, the search's reference",
          [](auto& r) -> auto& { return r.search.exhaustive; }),
      RecipeField{"finetune.epochs", "0 for none to 1000, or auto: the paper's number for the precision",
                  "epochs of block-wise fine-tuning",
                  [](Recipe& recipe, std::string_view text) {
                    const char* const allowed = "0 to 1000, or auto";
                    const auto value = text == "auto" ? -1 : parse_number<int64_t>("finetune.epochs", text, allowed);
                    if (text != "auto" && (value < 0 || value > 1000)) refuse("finetune.epochs", text, allowed);
                    recipe.finetune.epochs = value;
                  },
                  [](const Recipe& recipe) { return Json(recipe.finetune.epochs); }},
      number<int64_t>(
          "finetune.samples", "training sequences", [](auto& r) -> auto& { return r.finetune.samples; }, 1, big),
      number<int64_t>(
          "finetune.length", "tokens in each of them", [](auto& r) -> auto& { return r.finetune.length; }, 2, big),
      number<int64_t>(
          "finetune.validation", "sequences held back to judge by",
          [](auto& r) -> auto& { return r.finetune.validation; }, 0, big),
      number<int64_t>(
          "finetune.batch", "sequences in a step", [](auto& r) -> auto& { return r.finetune.batch; }, 1, big),
      number<double>(
          "finetune.weight_rate", "learning rate of the weights",
          [](auto& r) -> auto& { return r.finetune.weight_rate; }, 0.0, 1e30),
      number<double>(
          "finetune.quantizer_rate", "learning rate of scales, zero points and clip factors",
          [](auto& r) -> auto& { return r.finetune.quantizer_rate; }, 0.0, 1e30),
      flag(
          "finetune.relative_rates", "learning rates stand for a scale of 0.01 and grow with each tensor's own",
          [](auto& r) -> auto& { return r.finetune.relative_rates; }),
      choice<TuningTarget>("finetune.target", "stream that the full-precision block computes a block's target from",
                           [](auto& r) -> auto& { return r.finetune.target; },
                           {{"full-precision", TuningTarget::full_precision},
                            {"quantized", TuningTarget::quantized},
                            {"both", TuningTarget::both}}),
      choice<TuningLoss>("finetune.loss", "a token's squared error as it is, or over its target's mean square",
                         [](auto& r) -> auto& { return r.finetune.loss; },
                         {{"mse", TuningLoss::mse}, {"normalized", TuningLoss::normalized}}),
      flag(
          "finetune.skip_mse", "leave each sequence's 3 largest tokens out of the loss",
          [](auto& r) -> auto& { return r.finetune.skip_mse; }),
      number<double>(
          "finetune.clip_gradient", "largest norm of a step's gradients",
          [](auto& r) -> auto& { return r.finetune.clip_gradient; }, 0.0, 1e30, "0 for no limit, or above"),
      choice<ComputeType>("finetune.compute", "arithmetic of a training step; parameters are float32",
                          [](auto& r) -> auto& { return r.finetune.compute; },
                          {{"float32", ComputeType::float32}, {"bf16", ComputeType::bf16}}),
      number<int64_t>(
          "finetune.e2e_epochs", "epochs of tuning weight scales alone, end to end, after the blocks (E2E-QP)",
          [](auto& r) -> auto& { return r.finetune.e2e_epochs; }, 0, 1000),
      number<double>(
          "finetune.e2e_rate", "its learning rate", [](auto& r) -> auto& { return r.finetune.e2e_rate; }, 0.0, 1e30),
      word(
          "calibration.source", "any", "where the calibration text came from",
          [](auto& r) -> auto& { return r.calibration.source; }),
      number<int64_t>(
          "calibration.samples", "sequences for detection and statistics",
          [](auto& r) -> auto& { return r.calibration.samples; }, 1, big),
      number<int64_t>(
          "calibration.length", "tokens in each of them", [](auto& r) -> auto& { return r.calibration.length; }, 2,
          big),
      number<std::uint64_t>(
          "seed", "seed of everything random", [](auto& r) -> auto& { return r.seed; }, 0, ~std::uint64_t{0}),
  };
}

}  // namespace

const std::vector<RecipeField>& recipe_fields() {
  static const std::vector<RecipeField> fields = make_fields();
  return fields;
}

}  // namespace pq
