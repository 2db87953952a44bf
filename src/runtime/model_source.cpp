#include "runtime/model_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>

#include "base/error.h"
#include "io/hf_checkpoint.h"
#include "io/quantized_checkpoint.h"
#include "runtime/packed_linear.h"

namespace pq::runtime {
namespace {

/// All values of a floating tensor. Throws FormatError for one that is not finite.
std::vector<float> floats_of(const io::TensorView& view) {
  std::vector<float> values(static_cast<std::size_t>(view.size()));
  io::to_float32(view, values);
  if (!std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); })) refuse_not_finite(view);
  return values;
}

BlockSource quantized_block(const io::QuantizedCheckpoint& checkpoint, std::int64_t index) {
  BlockSource source{checkpoint.block_without_weights(index), {}, {}};
  const std::string_view kind = checkpoint.recipe().weight.enabled() ? ".qweight" : ".weight";
  for (const LinearId id : all_linears) {
    source.weights[id] = checkpoint.tensor(tensor_names::linear(index, id).append(kind));
  }
  return source;
}

std::vector<float> vector_of(const io::HfCheckpoint& checkpoint, std::string_view name, std::int64_t size) {
  return floats_of(checkpoint.tensor(name, std::array{size}));
}

BlockSource unquantized_block(const io::HfCheckpoint& checkpoint, std::int64_t index) {
  const ModelSpec& spec = checkpoint.spec();
  BlockSource source;
  for (const NormRow& norm : all_norms(spec)) {
    source.parameters.norms[norm.id] = vector_of(checkpoint, tensor_names::norm(index, norm.id), norm.size);
  }
  for (const LinearId id : all_linears) {
    const LinearShape shape = linear_shape(spec, id);
    const std::string name = tensor_names::linear(index, id);
    source.weights[id] = checkpoint.tensor(name + ".weight", std::array{shape.out_features, shape.in_features});
    if (shape.bias) source.parameters.linears[id].bias = vector_of(checkpoint, name + ".bias", shape.out_features);
  }
  return source;
}

ModelSource open_quantized(const std::string& model) {
  const auto checkpoint = std::make_shared<const io::QuantizedCheckpoint>(io::QuantizedCheckpoint::open(model));
  return {.spec = checkpoint->spec(),
          .recipe = checkpoint->recipe(),
          .directory = checkpoint->directory(),
          .files = checkpoint,
          .embedding = checkpoint->embedding(),
          .lm_head = checkpoint->lm_head(),
          .final_norm = checkpoint->final_norm(),
          .prefix = checkpoint->prefix(),
          .block = [checkpoint](std::int64_t index) { return quantized_block(*checkpoint, index); }};
}

ModelSource open_unquantized(const std::string& model) {
  const auto checkpoint = std::make_shared<const io::HfCheckpoint>(io::HfCheckpoint::open(model));
  const ModelSpec& spec = checkpoint->spec();
  const std::array<std::int64_t, 2> vocab_shape{spec.vocab_size, spec.hidden_size};
  ModelSource source;
  source.spec = spec;
  source.recipe.name = "unquantized";
  source.recipe.rotate = {false, false, false, false};
  source.directory = checkpoint->directory();
  source.files = checkpoint;
  source.embedding = checkpoint->tensor(tensor_names::embedding, vocab_shape);
  source.lm_head = spec.tied_embeddings ? source.embedding : checkpoint->tensor(tensor_names::lm_head, vocab_shape);
  source.final_norm = vector_of(*checkpoint, tensor_names::final_norm, spec.hidden_size);
  source.block = [checkpoint](std::int64_t index) { return unquantized_block(*checkpoint, index); };
  return source;
}

}  // namespace

void check_shape(const ModelSpec& spec, std::string_view where) {
  constexpr std::int64_t widest_head = 1024;
  if (spec.head_dim > widest_head || spec.head_dim % 2 != 0) {
    throw UnsupportedError(where, fmt::format("heads of {} dimensions", spec.head_dim),
                           fmt::format("even sizes up to {} are supported", widest_head));
  }
}

ModelSource open_model(const std::string& model) {
  const auto directory = io::resolve_model_directory(model);
  ModelSource source = io::is_quantized_checkpoint(directory) ? open_quantized(model) : open_unquantized(model);
  check_shape(source.spec, source.directory.string());
  return source;
}

}  // namespace pq::runtime
