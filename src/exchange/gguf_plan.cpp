#include "exchange/gguf_plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "io/gguf_names.h"

namespace pq::exchange {
namespace {

std::string gguf_name(std::string_view name, const io::GgufArchitecture& architecture, std::string_view where) {
  if (auto found = io::gguf_tensor_name(name, architecture.name)) return *found;
  throw UnsupportedError(fmt::format("{}: tensor '{}'", where, name),
                         fmt::format("has no name in GGUF's architecture '{}'", architecture.name),
                         "this model cannot be exported to GGUF");
}

std::vector<BlockTensor> block_tensors(const ModelSpec& spec, const io::GgufArchitecture& architecture,
                                       io::DType weights, std::int64_t index, std::string_view where) {
  std::vector<BlockTensor> tensors;
  const std::string start = tensor_names::block(index) + ".";
  for (const NormRow& norm : all_norms(spec)) {
    BlockTensor tensor;
    tensor.declaration = {gguf_name(tensor_names::norm(index, norm), architecture, where), io::DType::f32, {norm.size}};
    tensor.norm = norm.id;
    tensors.push_back(std::move(tensor));
  }
  for (const LinearId id : all_linears) {
    const StoredLinear stored = stored_linear(spec, id);
    if (stored.first_row > 0) continue;  // with the layer whose rows are the first
    const LinearShape shape = linear_shape(spec, id);
    BlockTensor tensor;
    for (const LinearId other : all_linears) {
      if (stored_linear(spec, other).name == stored.name) tensor.linears.push_back(other);
    }
    const std::string stem = start + std::string(stored.name);
    tensor.declaration = {gguf_name(stem + ".weight", architecture, where), weights, {stored.rows, shape.in_features}};
    tensors.push_back(tensor);
    if (!shape.bias) continue;
    tensor.declaration = {gguf_name(stem + ".bias", architecture, where), io::DType::f32, {stored.rows}};
    tensor.bias = true;
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

}  // namespace

std::vector<io::TensorDeclaration> GgufPlan::tensors() const {
  std::vector<io::TensorDeclaration> all{embedding};
  for (const std::vector<BlockTensor>& block : blocks) {
    for (const BlockTensor& tensor : block) all.push_back(tensor.declaration);
  }
  all.push_back(final_norm);
  all.push_back(lm_head);
  if (rope_factors) all.push_back(*rope_factors);
  return all;
}

std::int64_t GgufPlan::rope_pairs(LinearId id, const ModelSpec& spec) const {
  return architecture.rope_pairs && (id == LinearId::q || id == LinearId::k) ? spec.head_dim : 0;
}

GgufPlan make_plan(const ModelSpec& spec, const io::GgufArchitecture& architecture, io::DType weights,
                   std::int64_t rope_factors, std::string_view where) {
  const auto whole = [&](std::string_view name, io::DType dtype, std::vector<std::int64_t> shape) {
    return io::TensorDeclaration{gguf_name(name, architecture, where), dtype, std::move(shape)};
  };
  GgufPlan plan{.architecture = architecture,
                .weights = weights,
                .embedding = whole(tensor_names::embedding, io::DType::f16, {spec.vocab_size, spec.hidden_size}),
                .blocks = {},
                .final_norm = whole(tensor_names::final_norm, io::DType::f32, {spec.hidden_size}),
                .lm_head = whole(tensor_names::lm_head, io::DType::f16, {spec.vocab_size, spec.hidden_size}),
                .rope_factors = std::nullopt};
  for (std::int64_t index = 0; index < spec.block_count; ++index) {
    plan.blocks.push_back(block_tensors(spec, architecture, weights, index, where));
  }
  if (rope_factors > 0) plan.rope_factors = {"rope_freqs.weight", io::DType::f32, {rope_factors}};
  return plan;
}

void refuse_online_transforms(const SiteTransforms& transforms, std::string_view where) {
  for (const Site site : quantized_sites) {
    if (transforms[site].empty() || site == Site::k_cache) continue;
    const std::string_view without = setting_without_rotation(site);
    throw UnsupportedError(
        where,
        fmt::format("recipe field {}: the model transforms {} while it runs, and llama.cpp does not",
                    without.substr(0, without.find('=')), site_name(site)),
        fmt::format("quantize again with --set {}, or pq quantize --for llama.cpp, which picks a recipe", without));
  }
}

std::vector<std::string> left_out(const Recipe& recipe, const SiteTransforms& transforms) {
  std::vector<std::string> notes;
  if (recipe.activation.enabled()) {
    notes.push_back(fmt::format("the {}-bit activations: llama.cpp quantizes them to 8 bits a block of its own",
                                recipe.activation.bits));
  }
  if (recipe.kv.enabled()) {
    notes.push_back(fmt::format("the {}-bit KV cache: llama.cpp's flags -ctk and -ctv choose one", recipe.kv.bits));
  }
  if (!transforms[Site::k_cache].empty()) {
    notes.push_back("the rotation of Q and K (R3), which leaves their products as they are");
  }
  return notes;
}

}  // namespace pq::exchange
