#include "quant/layer_errors.h"

#include <limits>
#include <string>

#include "model/format_override.h"

namespace pq::quant {
namespace {

double squares(const at::Tensor& x) { return x.square().sum(at::kDouble).item<double>(); }

LinearError linear_error(const nn::Linear& whole, const nn::Linear& rounded, const at::Tensor& x,
                         const at::Tensor& quantized) {
  const at::Tensor y = nn::apply(whole, x);
  const at::Tensor of_inputs = nn::apply(whole, quantized);
  const at::Tensor both = nn::apply(rounded, quantized);
  const double size = squares(y);
  return {squares(both - y) / size, squares(both - of_inputs) / size, squares(of_inputs - y) / size, 0};
}

double number(const Json& json, const char* key) {
  return json.is_object() && json.contains(key) && json[key].is_number() ? json[key].get<double>()
                                                                         : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace

QuantizedParts QuantizedParts::only(LinearId linear) {
  QuantizedParts parts;
  parts.weights[linear] = parts.inputs[linear] = true;
  return parts;
}

at::Tensor forward_with(const nn::Block& whole, const nn::Block& rounded, const nn::Tap& tap,
                        const QuantizedParts& parts, const nn::BlockContext& context, const at::Tensor& x) {
  nn::Block mixed = whole;
  for (const LinearId id : all_linears) {
    if (parts.weights[id]) mixed[id] = rounded[id];
  }
  const auto tap_of = [&](bool quantized) { return quantized ? tap : nn::Tap{}; };
  /// What linear layer `id` reads of a site.
  const auto input = [&](LinearId id, const at::Tensor& value) {
    return parts.inputs[id] && tap ? tap(input_site(id), value) : value;
  };
  const std::int64_t first = context.prefix == nullptr ? 0 : context.prefix->length();
  const at::Tensor h = nn::qkv_input(mixed, context, x, {});
  const auto project = [&](LinearId id) {
    return nn::project_qkv(mixed, context, input(id, h), first, tap_of(parts.caches));
  };
  nn::Qkv qkv = project(LinearId::q);
  for (const LinearId id : {LinearId::k, LinearId::v}) {
    if (parts.inputs[id] == parts.inputs[LinearId::q]) continue;
    (id == LinearId::k ? qkv.k : qkv.v) = id == LinearId::k ? project(id).k : project(id).v;
  }
  const at::Tensor middle =
      nn::attention_output(mixed, context, x, nn::attend(context, qkv), tap_of(parts.inputs[LinearId::o]));
  const at::Tensor g = nn::gate_up_input(mixed, context, middle, {});
  const at::Tensor product = nn::gated_product(mixed, context, input(LinearId::gate, g), input(LinearId::up, g), {});
  return nn::mlp_output(mixed, context, middle, product, tap_of(parts.inputs[LinearId::down]));
}

double token_error(const at::Tensor& whole, const at::Tensor& quantized) {
  const at::Tensor size = whole.square().sum(-1, false, at::kDouble);
  const at::Tensor error = (quantized - whole).square().sum(-1, false, at::kDouble);
  return (error / size).mean().item<double>();
}

LayerErrors layer_errors(const nn::Block& whole, const nn::Block& rounded, const nn::Tap& tap,
                         const nn::BlockContext& context, const at::Tensor& x, at::Tensor& output) {
  PerSite<at::Tensor> inputs;
  const at::Tensor expected = nn::forward(whole, context, x, [&](Site site, const at::Tensor& value) {
    if (at::Tensor* input = inputs.find(site)) *input = value;
    return value;
  });
  LayerErrors errors;
  for (const LinearId id : all_linears) {
    const Site site = input_site(id);
    const at::Tensor quantized = tap ? tap(site, inputs[site]) : inputs[site];
    errors.linears[id] = linear_error(whole[id], rounded[id], inputs[site], quantized);
    errors.linears[id].propagated =
        token_error(expected, forward_with(whole, rounded, tap, QuantizedParts::only(id), context, x));
  }
  output = nn::forward(rounded, context, x, tap);
  errors.block = squares(output - expected) / squares(expected);
  errors.block_propagated = token_error(expected, output);
  return errors;
}

Json layer_errors_to_json(const LayerErrors& errors) {
  Json linears = Json::object();
  for (const LinearId id : all_linears) {
    const LinearError& one = errors.linears[id];
    linears[std::string(linear_name(id))] = {
        {"output", one.output}, {"weights", one.weights}, {"inputs", one.inputs}, {"propagated", one.propagated}};
  }
  return {{"output", errors.block}, {"propagated", errors.block_propagated}, {"linears", std::move(linears)}};
}

LayerErrors layer_errors_from_json(const Json& json) {
  LayerErrors errors;
  errors.block = number(json, "output");
  errors.block_propagated = number(json, "propagated");
  const Json linears = json.is_object() ? json.value("linears", Json::object()) : Json::object();
  for (const LinearId id : all_linears) {
    const Json one = linears.is_object() ? linears.value(std::string(linear_name(id)), Json::object()) : Json::object();
    errors.linears[id] = {number(one, "output"), number(one, "weights"), number(one, "inputs"),
                          number(one, "propagated")};
  }
  return errors;
}

}  // namespace pq::quant
