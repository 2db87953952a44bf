#include "exchange/ct_plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/half.h"
#include "exchange/uniform_formats.h"
#include "io/block_tensors.h"
#include "io/foreign_layout.h"

namespace pq::exchange {
namespace {

constexpr int word_bits = 32;

std::int64_t words_of(std::int64_t codes, int bits) { return (codes * bits + word_bits - 1) / word_bits; }

class Planner {
 public:
  explicit Planner(const io::QuantizedCheckpoint& checkpoint)
      : checkpoint_(checkpoint), spec_(checkpoint.spec()), recipe_(checkpoint.recipe()) {}

  CtPlan plan() {
    check_weights();
    check_transforms();
    choose_scheme();
    check_numbers();
    plan_.quantization_config = config();
    say_what_is_left_out();
    return plan_;
  }

 private:
  [[noreturn]] void refuse(std::string_view field, std::string_view what, std::string_view settings) const {
    throw UnsupportedError(fmt::format("{}: recipe field {}", checkpoint_.directory().string(), field), what,
                           fmt::format("quantize the model for it: pq quantize MODEL -o OUT {}", settings));
  }

  std::string recipe_for_weights() const {
    if (!recipe_.activation.enabled()) return "--recipe w4a16g128-ct";
    return recipe_.weight.bits == 8 ? "--recipe w8a8-ct" : "--recipe w4a8-ct";
  }

  void check_weights() const {
    const QuantizerFormat& weight = recipe_.weight;
    if (!weight.enabled()) {
      refuse("weight.bits", "the weights are not quantized, which this format is for", "--recipe w4a16g128-ct");
    }
    if (weight.two_level) {
      refuse("weight.two_level", "two-level scales have no place in the format", recipe_for_weights());
    }
    if (weight.granularity != Granularity::group) return;
    std::int64_t fitting = 128;
    bool divides = true;
    for (const LinearId id : all_linears) {
      const std::int64_t columns = linear_shape(spec_, id).in_features;
      divides = divides && columns % weight.group == 0;
      while (fitting > 1 && columns % fitting != 0) fitting /= 2;
    }
    if (divides) return;
    refuse("weight.group", fmt::format("groups of {} do not divide the inputs of every layer", weight.group),
           fmt::format("{} --set weight.group={}", recipe_for_weights(), fitting));
  }

  void check_transforms() const {
    for (const Site site : quantized_sites) {
      if (checkpoint_.site_transforms()[site].empty() || site == Site::k_cache) continue;
      const std::string_view without = setting_without_rotation(site);
      refuse(without.substr(0, without.find('=')),
             fmt::format("what is computed at {} while the model runs has no place in the format", site_name(site)),
             fmt::format("{} --set {}", recipe_for_weights(), without));
    }
  }

  void choose_scheme() {
    const QuantizerFormat& weight = recipe_.weight;
    const QuantizerFormat& activation = recipe_.activation;
    plan_.scheme = fmt::format("W{}A{}", weight.bits, activation.bits);
    plan_.layout = io::ForeignLayout::pack_quantized;
    if (!activation.enabled()) return;
    check_activations();
    if (weight.bits != 8) return;
    plan_.layout = io::ForeignLayout::int_quantized;
    if (!weight.symmetric || weight.granularity != Granularity::channel) {
      refuse("weight.granularity", "8-bit products take symmetric weights with one scale a channel",
             "--recipe w8a8-ct");
    }
  }

  void check_activations() const {
    const QuantizerFormat& activation = recipe_.activation;
    if (activation.is_static() && (activation.bits != 8 || recipe_.weight.bits != 8)) {
      refuse("activation.mode",
             fmt::format("no program runs static activations of {} bits with weights of {}", activation.bits,
                         recipe_.weight.bits),
             recipe_.weight.bits == 8 ? "--recipe w8a8-static-ct" : recipe_for_weights());
    }
    if (activation.is_static()) return;
    if (activation.granularity != Granularity::token || !activation.symmetric) {
      refuse(activation.symmetric ? "activation.granularity" : "activation.symmetric",
             "dynamic activations are symmetric there, with one scale a token", recipe_for_weights());
    }
  }

  /// Clip factors, zero points, and which 16-bit type holds the scales.
  void check_numbers() {
    bool f16 = true;
    bool bf16 = true;
    for (std::int64_t block = 0; block < spec_.block_count; ++block) {
      const QuantizedBlock parameters = checkpoint_.block_without_weights(block);
      check_clips(block, parameters);
      for (const LinearId id : all_linears) {
        const QuantizedLinear& linear = parameters.linears[id];
        check_zero_points(block, id, linear);
        for (const float scale : linear.scales) {
          f16 = f16 && f16_to_float(float_to_f16(scale)) == scale;
          bf16 = bf16 && bf16_to_float(float_to_bf16(scale)) == scale;
        }
      }
    }
    plan_.real = bf16 && !f16 ? io::DType::bf16 : io::DType::f16;
    plan_.scales_fit = f16 || bf16 || plan_.layout == io::ForeignLayout::int_quantized;
  }

  void check_clips(std::int64_t block, const QuantizedBlock& parameters) const {
    if (!recipe_.activation.enabled() || recipe_.activation.is_static()) return;
    for (const Site site : quantized_sites) {
      if (is_kv(site) || parameters.sites[site].clip[0] == 1) continue;
      refuse("search.activation",
             fmt::format("block {} clips {} at {} of its largest value, which has no place in the format", block,
                         site_name(site), parameters.sites[site].clip[0]),
             recipe_for_weights() + " --set search.activation=false");
    }
  }

  void check_zero_points(std::int64_t block, LinearId id, const QuantizedLinear& linear) const {
    for (const std::int16_t zero : linear.zero_points) {
      if (zero >= 0 && zero < 1 << recipe_.weight.bits) continue;
      refuse("weight.symmetric",
             fmt::format("{} has a zero point of {}, and the format none outside 0 to {}",
                         tensor_names::linear(block, id), zero, (1 << recipe_.weight.bits) - 1),
             recipe_for_weights() + " --set weight.scale_type=f16");
    }
  }

  Json arguments(const QuantizerFormat& format, std::string_view strategy) const {
    const bool grouped = strategy == "group";
    return {{"num_bits", format.bits},
            {"type", "int"},
            {"symmetric", format.symmetric},
            {"group_size", grouped ? Json(format.group) : Json()},
            {"strategy", strategy},
            {"block_structure", nullptr},
            {"dynamic", !format.is_static()},
            {"actorder", nullptr},
            {"observer", nullptr},
            {"observer_kwargs", Json::object()}};
  }

  Json config() const {
    const std::string_view format = io::foreign_layout_row(plan_.layout).name;
    const QuantizerFormat& activation = recipe_.activation;
    Json inputs;
    if (activation.enabled()) inputs = arguments(activation, activation.is_static() ? "tensor" : "token");
    const bool grouped = recipe_.weight.granularity == Granularity::group;
    Json group{{"targets", {"Linear"}},
               {"format", format},
               {"weights", arguments(recipe_.weight, grouped ? "group" : "channel")},
               {"input_activations", std::move(inputs)},
               {"output_activations", nullptr}};
    return {{"quant_method", "compressed-tensors"},
            {"version", "0.9.0"},
            {"format", format},
            {"quantization_status", "compressed"},
            {"global_compression_ratio", nullptr},
            {"kv_cache_scheme", nullptr},
            {"ignore", {"lm_head"}},
            {"sparsity_config", Json::object()},
            {"transform_config", Json::object()},
            {"config_groups", {{"group_0", std::move(group)}}}};
  }

  void say_what_is_left_out() {
    if (recipe_.kv.enabled()) {
      plan_.left_out.push_back(
          fmt::format("the KV cache of {} bits: vLLM keeps K and V in 16; its --kv-cache-dtype fp8 comes nearest",
                      recipe_.kv.bits));
    }
    if (!checkpoint_.site_transforms()[Site::k_cache].empty()) {
      plan_.left_out.emplace_back(
          "the transform of Q and K (R3): without a quantized KV cache it cancels in the scores");
    }
    if (plan_.layout == io::ForeignLayout::pack_quantized && recipe_.activation.enabled()) {
      plan_.left_out.push_back(
          fmt::format("{}-bit activations where vLLM has no kernel for them with packed weights: it computes {} then",
                      recipe_.activation.bits, fmt::format("W{}A16", recipe_.weight.bits)));
    }
  }

  const io::QuantizedCheckpoint& checkpoint_;
  const ModelSpec& spec_;
  const Recipe& recipe_;
  CtPlan plan_{};
};

}  // namespace

std::string_view torch_dtype(io::DType real) {
  return real == io::DType::bf16 ? "bfloat16" : real == io::DType::f16 ? "float16" : "float32";
}

CtPlan plan_compressed_tensors(const io::QuantizedCheckpoint& checkpoint) {
  refuse_mixed_formats(checkpoint.spec(), checkpoint.recipe(), true, checkpoint.directory().string());
  return Planner(checkpoint).plan();
}

std::vector<CtModule> ct_modules(const ModelSpec& spec, std::int64_t block) {
  std::vector<CtModule> modules;
  for (const LinearId id : all_linears) {
    const LinearShape shape = linear_shape(spec, id);
    const StoredLinear stored = stored_linear(spec, id);
    if (stored.first_row == 0) {
      modules.push_back({fmt::format("{}.{}", tensor_names::block(block), stored.name),
                         {},
                         stored.rows,
                         shape.in_features,
                         shape.bias});
    }
    modules.back().parts.push_back(id);
  }
  return modules;
}

std::vector<io::TensorDeclaration> ct_layout(const ModelSpec& spec, const Recipe& recipe, const CtPlan& plan) {
  std::vector<io::TensorDeclaration> layout;
  const auto add = [&](std::string name, io::DType dtype, std::vector<std::int64_t> shape) {
    layout.push_back({std::move(name), dtype, std::move(shape)});
  };
  const QuantizerFormat& weight = recipe.weight;
  add(std::string(tensor_names::embedding), plan.real, {spec.vocab_size, spec.hidden_size});
  for (std::int64_t block = 0; block < spec.block_count; ++block) {
    for (const NormRow& norm : all_norms(spec)) add(tensor_names::norm(block, norm), plan.real, {norm.size});
    for (const CtModule& module : ct_modules(spec, block)) {
      const std::int64_t groups = weight.groups(module.columns);
      if (plan.layout == io::ForeignLayout::int_quantized) {
        add(module.name + ".weight", io::DType::i8, {module.rows, module.columns});
        add(module.name + ".weight_scale", io::DType::f32, {module.rows, 1});
      } else {
        add(module.name + ".weight_packed", io::DType::i32, {module.rows, words_of(module.columns, weight.bits)});
        add(module.name + ".weight_scale", plan.real, {module.rows, groups});
        add(module.name + ".weight_shape", io::DType::i64, {2});
        if (!weight.symmetric) {
          add(module.name + ".weight_zero_point", io::DType::i32, {words_of(module.rows, weight.bits), groups});
        }
      }
      if (recipe.activation.enabled() && recipe.activation.is_static()) {
        add(module.name + ".input_scale", io::DType::f32, {1});
        if (!recipe.activation.symmetric) add(module.name + ".input_zero_point", io::DType::i8, {1});
      }
      if (module.bias) add(module.name + ".bias", plan.real, {module.rows});
    }
  }
  add(std::string(tensor_names::final_norm), plan.real, {spec.hidden_size});
  add(std::string(tensor_names::lm_head), plan.real, {spec.vocab_size, spec.hidden_size});
  return layout;
}

}  // namespace pq::exchange
