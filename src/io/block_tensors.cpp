#include "io/block_tensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <type_traits>
#include <utility>

#include "base/error.h"
#include "base/half.h"
#include "model/key_basis.h"
#include "numerics/two_level.h"

namespace pq::io {
namespace {

static_assert(std::endian::native == std::endian::little, "tensors are read as they stand in the file");

[[noreturn]] void fail_tensor(const TensorView& view, std::string_view what, std::string_view remedy) {
  throw FormatError(fmt::format("{}: tensor '{}'", view.file, view.name), what, remedy);
}

template <typename T>
void read_into(const TensorView& view, std::vector<T>& values) {
  values = copy_values<T>(view);
}
void read_into(const TensorView& view, std::array<float, 2>& values) {
  const auto copied = copy_values<float>(view);
  std::copy(copied.begin(), copied.end(), values.begin());
}

/// What kernels take for granted of two-level scales: (code - zero point) * group scale is an int8 for every code.
/// `group_scales` is the tensor that `linear` has them from.
void check_group_scales(const TensorView& group_scales, const QuantizedLinear& linear, std::string_view remedy) {
  for (std::size_t i = 0; i < linear.group_scales.size(); ++i) {
    if (two_level::fits(linear.group_scales[i], linear.zero_points[i])) continue;
    fail_tensor(group_scales,
                fmt::format("element {} is {} with a zero point of {}: no scale of 1 to {} whose products are int8", i,
                            linear.group_scales[i], linear.zero_points[i], two_level::largest_group_scale),
                remedy);
  }
}

}  // namespace

std::string prefix_names::key(std::int64_t block) { return fmt::format("prefix.layers.{}.key", block); }
std::string prefix_names::value(std::int64_t block) { return fmt::format("prefix.layers.{}.value", block); }

double bits_per_weight(const ModelSpec& spec, const Recipe& recipe) {
  std::uint64_t bytes = 0;
  QuantizedBlock empty;
  for (std::int64_t block = 0; block < spec.block_count; ++block) {
    visit_block(spec, recipe, block, std::as_const(empty), [&](const TensorDeclaration& tensor, const auto&) {
      const bool of_linear = std::any_of(all_linears.begin(), all_linears.end(), [&](LinearId id) {
        return tensor.name.starts_with(tensor_names::linear(block, id) + ".");
      });
      if (of_linear && !tensor.name.ends_with(".bias")) bytes += tensor.byte_count();
    });
  }
  return 8.0 * static_cast<double>(bytes) /
         (static_cast<double>(block_parameters(spec)) * static_cast<double>(spec.block_count));
}

void check_floats(const TensorView& view, std::span<const float> values, std::string_view remedy) {
  const bool factor = view.name.ends_with(".scales") || view.name.ends_with(".scale") || view.name.ends_with(".clip");
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) fail_tensor(view, fmt::format("element {} is not finite", i), remedy);
    if (factor && !(values[i] > 0))
      fail_tensor(view, fmt::format("element {} is {}, not above 0", i, values[i]), remedy);
  }
}

void check_halves(const TensorView& view, std::span<const std::uint16_t> values, std::string_view remedy) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(f16_to_float(values[i]))) fail_tensor(view, fmt::format("element {} is not finite", i), remedy);
  }
}

QuantizedBlock read_block(const ModelSpec& spec, const Recipe& recipe, const SiteTransforms& transforms,
                          std::int64_t index, BlockWeights weights,
                          const std::function<TensorView(std::string_view)>& tensor, std::string_view remedy) {
  const BlockFormats formats = block_formats(recipe, index);
  QuantizedBlock block;
  block.transforms = transforms;
  std::string file;
  visit_block(spec, recipe, index, block, [&](const TensorDeclaration& declaration, auto& values) {
    const bool weight = declaration.name.ends_with(".qweight") || declaration.dtype == DType::f16;
    if (weight && weights == BlockWeights::leave) return;
    const TensorView view = tensor(declaration.name);
    expect_tensor(view, declaration);
    file = view.file;
    read_into(view, values);
    if constexpr (std::is_same_v<std::decay_t<decltype(values[0])>, float>) check_floats(view, values, remedy);
  });
  for (const LinearId id : all_linears) {
    if (!formats.weight[id].two_level) continue;
    check_group_scales(tensor(tensor_names::linear(index, id) + ".group_scales"), block.linears[id], remedy);
  }
  if (!block.key_basis.empty()) {
    const std::string name = fmt::format("{}.{}.basis", tensor_names::block(index), site_name(Site::k_cache));
    try {
      query_basis(spec, block.key_basis);  // what Q is multiplied with
    } catch (const InputError& error) {
      throw FormatError(fmt::format("{}: {}", file, name), error.what(), remedy);
    }
  }
  for (const Site site : quantized_sites) {
    if (block.transforms[site].empty()) continue;
    try {
      check_transform(block.transforms[site], transform_size(spec, site).value());
      if (site == Site::k_cache) inverse_transposed(block.transforms[site]);  // what Q is multiplied with
    } catch (const InputError& error) {
      throw FormatError(fmt::format("{}: {}.{}", file, tensor_names::block(index), site_name(site)), error.what(),
                        remedy);
    }
  }
  return block;
}

}  // namespace pq::io
