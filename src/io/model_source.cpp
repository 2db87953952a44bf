#include "io/model_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace pq::io {
namespace {

/// All values of a floating tensor. Throws FormatError for one that is not finite.
std::vector<float> floats_of(const TensorView& view) {
  std::vector<float> values(static_cast<std::size_t>(view.size()));
  to_float32(view, values);
  if (!std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); })) refuse_not_finite(view);
  return values;
}

/// A norm's weight: what multiplies, also where the file keeps it as an offset from 1.
std::vector<float> norm_of(const TensorView& view, bool offset) {
  std::vector<float> values = floats_of(view);
  if (offset) {
    for (float& value : values) value += 1;
  }
  return values;
}

BlockSource quantized_block(const QuantizedCheckpoint& checkpoint, std::int64_t index) {
  BlockSource source{checkpoint.block_without_weights(index), {}, {}};
  const BlockFormats formats = block_formats(checkpoint.recipe(), index);
  for (const LinearId id : all_linears) {
    const std::string_view kind = formats.weight[id].enabled() ? ".qweight" : ".weight";
    source.weights[id] = checkpoint.tensor(tensor_names::linear(index, id).append(kind));
  }
  return source;
}

/// Weights of a block type as 16-bit ones: in float32 they would be read at half the speed.
TensorView in_16_bits(TensorView view) {
  view.round_to_bf16 = is_block_type(view.dtype);
  return view;
}

BlockSource unquantized_block(const HfCheckpoint& checkpoint, std::int64_t index) {
  BlockSource source;
  for (const NormRow& norm : all_norms(checkpoint.spec())) {
    source.parameters.norms[norm.id] = norm_of(checkpoint.norm(index, norm.id), norm.unit_offset);
  }
  for (const LinearId id : all_linears) {
    const LinearView linear = checkpoint.linear(index, id);
    source.weights[id] = in_16_bits(linear.weight);
    if (linear.bias) source.parameters.linears[id].bias = floats_of(*linear.bias);
  }
  return source;
}

template <typename T>
TensorView view_of(const std::vector<T>& values, DType dtype, LinearId id) {
  return {std::string(tensor_names::linear_in_block(id)),
          dtype,
          {static_cast<std::int64_t>(values.size())},
          std::as_bytes(std::span(values)),
          "model in memory"};
}

template <typename T>
std::vector<T> copy_of(const TensorView& view) {
  std::vector<T> values(view.bytes.size() / sizeof(T));
  std::memcpy(values.data(), view.bytes.data(), values.size() * sizeof(T));
  return values;
}

}  // namespace

BlockSource source_of(const QuantizedBlock& block) {
  BlockSource source{block, {}, {}};
  for (const LinearId id : all_linears) {
    const QuantizedLinear& linear = block.linears[id];
    source.weights[id] =
        linear.codes.empty() ? view_of(linear.weight, DType::f16, id) : view_of(linear.codes, DType::u8, id);
    source.parameters.linears[id].codes = {};
    source.parameters.linears[id].weight = {};
  }
  return source;
}

QuantizedBlock whole_block(BlockSource source) {
  for (const LinearId id : all_linears) {
    const TensorView& view = source.weights[id];
    QuantizedLinear& linear = source.parameters.linears[id];
    if (view.dtype == DType::u8) {
      linear.codes = copy_of<std::uint8_t>(view);
    } else if (view.dtype == DType::f16) {
      linear.weight = copy_of<std::uint16_t>(view);
    } else {
      throw UnsupportedError(fmt::format("{}: tensor '{}'", view.file, view.name),
                             fmt::format("is {}, neither codes nor F16", dtype_name(view.dtype)),
                             "quantize the model first");
    }
  }
  return std::move(source.parameters);
}

ModelSource source_of(const QuantizedCheckpoint& checkpoint) {
  return {.spec = checkpoint.spec(),
          .recipe = checkpoint.recipe(),
          .path = checkpoint.directory(),
          .files = {},
          .embedding = checkpoint.embedding(),
          .lm_head = checkpoint.lm_head(),
          .final_norm = checkpoint.final_norm(),
          .prefix = checkpoint.prefix(),
          .block = [&checkpoint](std::int64_t index) { return quantized_block(checkpoint, index); }};
}

ModelSource source_of(const HfCheckpoint& checkpoint) {
  ModelSource source;
  source.spec = checkpoint.spec();
  source.recipe.name = "unquantized";
  source.recipe.rotate = {ResidualRotation::none, false, false, false};
  source.path = checkpoint.path();
  source.embedding = in_16_bits(checkpoint.embedding());
  source.lm_head = in_16_bits(checkpoint.lm_head());
  source.final_norm = norm_of(checkpoint.final_norm(), source.spec.norm_offset);
  source.block = [&checkpoint](std::int64_t index) { return unquantized_block(checkpoint, index); };
  return source;
}

ModelSource source_of(const ForeignCheckpoint& checkpoint) {
  ModelSource source = source_of(checkpoint.rest());
  source.recipe = checkpoint.recipe();
  source.block = [&checkpoint](std::int64_t index) { return checkpoint.block(index); };
  return source;
}

ModelSource open_model_source(const std::string& model, std::int64_t context) {
  const auto keep = [](auto opened) {
    const auto checkpoint = std::make_shared<const decltype(opened)>(std::move(opened));
    ModelSource source = source_of(*checkpoint);
    source.files = checkpoint;
    source.block = [checkpoint, block = std::move(source.block)](std::int64_t index) { return block(index); };
    return source;
  };
  const std::filesystem::path path = resolve_model(model);
  if (is_quantized_checkpoint(path)) return keep(QuantizedCheckpoint::open(model));
  return is_foreign_checkpoint(path) ? keep(ForeignCheckpoint::open(model, context))
                                     : keep(HfCheckpoint::open(model, context));
}

}  // namespace pq::io
