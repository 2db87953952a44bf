#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "io/dtype.h"
#include "io/safetensors.h"
#include "model/block_formats.h"
#include "model/block_layout.h"
#include "model/quantized_block.h"
#include "model/recipe.h"
#include "model/site_transform.h"
#include "numerics/packing.h"

namespace pq::io {

/// Calls visit(declaration, values) for every tensor of block `index` in file order, with the container in `block` that
/// holds its values. The layout, the writer and the reader of quantized checkpoints all walk this one list. `Block` is
/// QuantizedBlock, const or not; the containers need not be filled, but the steps of its transforms must be there with
/// their sizes.
template <typename Block, typename Visit>
void visit_block(const ModelSpec& spec, const Recipe& recipe, std::int64_t index, Block& block, Visit&& visit) {
  const BlockFormats formats = block_formats(recipe, index);
  const auto tensor = [&](std::string name, DType dtype, std::vector<std::int64_t> shape, auto& values) {
    visit(TensorDeclaration{std::move(name), dtype, std::move(shape)}, values);
  };
  for (const NormRow& norm : all_norms(spec)) {
    tensor(tensor_names::norm(index, norm), DType::f32, {norm.size}, block.norms[norm.id]);
  }
  for (const LinearId id : all_linears) {
    const std::string name = tensor_names::linear(index, id);
    const LinearShape shape = linear_shape(spec, id);
    const QuantizerFormat& format = formats.weight[id];
    auto& linear = block.linears[id];
    if (format.enabled()) {
      const std::int64_t groups = format.groups(shape.in_features);
      const std::int64_t row_bytes = packed_row_bytes(shape.in_features, format.bits);
      tensor(name + ".qweight", DType::u8, {shape.out_features, row_bytes}, linear.codes);
      tensor(name + ".scales", DType::f32, {shape.out_features, format.two_level ? 1 : groups}, linear.scales);
      if (format.two_level)
        tensor(name + ".group_scales", DType::u8, {shape.out_features, groups}, linear.group_scales);
      if (!format.symmetric)
        tensor(name + ".zero_points", DType::i16, {shape.out_features, groups}, linear.zero_points);
    } else {
      tensor(name + ".weight", DType::f16, {shape.out_features, shape.in_features}, linear.weight);
    }
    if (shape.bias) tensor(name + ".bias", DType::f32, {shape.out_features}, linear.bias);
  }
  for (const Site id : quantized_sites) {
    const QuantizerFormat& format = formats.site[id];
    const std::string name = tensor_names::block(index) + "." + std::string(site_name(id));
    auto& site = block.sites[id];
    if (format.enabled() && format.is_static()) {
      const std::int64_t count = format.granularity == Granularity::head ? spec.kv_head_count : 1;
      tensor(name + ".scale", DType::f32, {count}, site.scale);
      if (!format.symmetric) tensor(name + ".zero_point", DType::i16, {count}, site.zero_point);
    }
    if (format.enabled() && !format.is_static()) tensor(name + ".clip", DType::f32, {2}, site.clip);
    if (id == Site::k_cache && formats.balance_keys) {
      tensor(name + ".basis", DType::f32, {spec.kv_head_count, spec.head_dim, spec.head_dim}, block.key_basis);
    }
    if (id == Site::k_cache && formats.center_keys) {
      tensor(name + ".mean", DType::f32, {spec.kv_head_count, spec.head_dim}, block.key_mean);
    }
    auto& steps = block.transforms[id].steps;
    for (std::size_t i = 0; i < steps.size(); ++i) {
      visit_step_tensors(steps[i], transform_size(spec, id).value(),
                         [&](std::string_view what, std::vector<std::int64_t> shape, auto& values) {
                           using Value = typename std::decay_t<decltype(values)>::value_type;
                           tensor(name + ".transform." + std::to_string(i) + "." + std::string(what),
                                  std::is_integral_v<Value> ? DType::i32 : DType::f32, std::move(shape), values);
                         });
    }
  }
}

/// Bits that a linear layer's weight takes in a checkpoint, on average over the model, scales and zero points included.
double bits_per_weight(const ModelSpec& spec, const Recipe& recipe);

/// Copies the elements; T is what the view's type, checked before, stands for.
template <typename T>
std::vector<T> copy_values(const TensorView& view) {
  std::vector<T> values(view.bytes.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), view.bytes.data(), values.size() * sizeof(T));
  return values;
}

/// Scales and clip factors (known by the tensor's name) divide or multiply, so they must be above 0; any other float
/// must be finite. Throws FormatError naming file, tensor and element.
void check_floats(const TensorView& view, std::span<const float> values, std::string_view remedy);
/// Finite binary16 numbers.
void check_halves(const TensorView& view, std::span<const std::uint16_t> values, std::string_view remedy);

enum class BlockWeights {
  read,
  leave,  ///< `codes` and `weight` of the linear layers stay empty
};

/// Block `index`, copied from the tensors that `tensor(name)` gives; `transforms` are its transforms' steps and sizes.
/// Throws FormatError when a tensor has another type or shape, or does not pass check_floats or check_transform, or
/// holds group scales and zero points that do not fit (numerics/two_level.h); what `tensor` throws comes through.
QuantizedBlock read_block(const ModelSpec& spec, const Recipe& recipe, const SiteTransforms& transforms,
                          std::int64_t index, BlockWeights weights,
                          const std::function<TensorView(std::string_view)>& tensor, std::string_view remedy);

/// Names of the prefix's tensors.
namespace prefix_names {
inline constexpr std::string_view token_ids = "prefix.token_ids";
std::string key(std::int64_t block);
std::string value(std::int64_t block);
}  // namespace prefix_names

}  // namespace pq::io
