#include "tuning/exchange.h"

#include <cstring>
#include <string>
#include <vector>

#include "io/block_tensors.h"

namespace pq::quant {
namespace {

template <typename T>
void broadcast_values(Communicator& processes, std::vector<T>& values) {
  std::vector<std::byte> bytes(values.size() * sizeof(T));
  if (!values.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  processes.broadcast(bytes);
  values.resize(bytes.size() / sizeof(T));
  if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
}

void broadcast_site(Communicator& processes, SiteQuantizer& site) {
  broadcast_values(processes, site.scale);
  broadcast_values(processes, site.zero_point);
  processes.broadcast(std::span<float>(site.clip));
}

std::span<float> floats_of(const at::Tensor& plain) {
  return {plain.data_ptr<float>(), static_cast<std::size_t>(plain.numel())};
}

}  // namespace

void broadcast(Communicator& processes, const at::Tensor& tensor) {
  if (processes.size() == 1) return;
  const at::Tensor plain = tensor.to(at::kCPU).contiguous();
  processes.broadcast(floats_of(plain));
  if (!plain.is_same(tensor)) tensor.copy_(plain);
}

void sum(Communicator& processes, const at::Tensor& tensor) {
  if (processes.size() == 1) return;
  const at::Tensor plain = tensor.to(at::kCPU, at::kFloat).contiguous();
  processes.sum(floats_of(plain));
  if (!plain.is_same(tensor)) tensor.copy_(plain);
}

double sum(Communicator& processes, double value) {
  processes.sum(std::span(&value, 1));
  return value;
}

void sum_gradient(Communicator& processes, const at::Tensor& leaf) {
  if (processes.size() == 1 || !leaf.requires_grad()) return;
  at::Tensor& gradient = leaf.mutable_grad();
  if (!gradient.defined()) gradient = at::zeros_like(leaf.detach());
  sum(processes, gradient);
}

Json broadcast(Communicator& processes, const Json& json) {
  if (processes.size() == 1) return json;
  std::string text = json.dump();
  std::vector<char> characters(text.begin(), text.end());
  broadcast_values(processes, characters);
  return Json::parse(characters.begin(), characters.end());
}

void broadcast(Communicator& processes, BlockStart& start, const ModelSpec& spec, const Recipe& recipe,
               std::int64_t index) {
  if (processes.size() == 1) return;
  const BlockFormats formats = block_formats(recipe, index);
  for (const LinearId id : all_linears) {
    const at::Tensor& weight = start.block[id].weight;
    broadcast(processes, weight);
    const QuantizerFormat& format = formats.weight[id];
    if (!format.enabled()) continue;
    ScaleTensors& scales = start.weight_scales[id];
    if (!scales.scale.defined()) {
      const LinearShape shape = linear_shape(spec, id);
      scales.scale = at::empty({shape.out_features, format.groups(shape.in_features)}, weight.options());
      if (!format.symmetric) scales.zero_point = at::empty_like(scales.scale);
      if (format.two_level) scales.channel = at::empty({shape.out_features, 1}, weight.options());
    }
    broadcast(processes, scales.scale);
    if (scales.zero_point.defined()) broadcast(processes, scales.zero_point);
    if (scales.channel.defined()) broadcast(processes, scales.channel);
  }
  for (SiteQuantizer& site : start.sites) broadcast_site(processes, site);
}

void broadcast(Communicator& processes, QuantizedBlock& block, const ModelSpec& spec, const Recipe& recipe,
               std::int64_t index) {
  if (processes.size() == 1) return;
  io::visit_block(spec, recipe, index, block, [&](const io::TensorDeclaration&, auto& values) {
    if constexpr (requires { values.resize(std::size_t{}); }) {
      broadcast_values(processes, values);
    } else {
      processes.broadcast(std::span<float>(values));
    }
  });
}

}  // namespace pq::quant
