#include "nn/model_context.h"

#include <algorithm>

namespace pq::nn {

OnlineRotations online_rotations(const Recipe& recipe) { return {recipe.rotate.r3, recipe.rotate.r4}; }

ModelContext::ModelContext(const ModelSpec& spec, OnlineRotations rotations, std::int64_t positions,
                           const at::TensorOptions& options)
    : spec_(&spec), options_(options), rope_(spec, positions, options) {
  const bool wide = c10::typeMetaToScalarType(options.dtype()) == at::kDouble;
  const at::TensorOptions transforms = options.dtype(wide ? at::kDouble : at::kFloat);
  if (rotations.r3) r3_ = std::make_shared<Hadamard>(spec.head_dim, transforms);
  if (rotations.r4) r4_ = std::make_shared<Hadamard>(spec.intermediate_size, transforms);
}

BlockContext ModelContext::block(std::int64_t index, const KeyValue* prefix) const {
  BlockContext context;
  context.spec = spec_;
  context.rope = &rope_;
  context.r3 = r3_.get();
  context.r4 = r4_.get();
  context.prefix = prefix;
  context.window = spec_->window_of_block(index);
  return context;
}

ModelContext ModelContext::computing_in(const at::TensorOptions& options, std::int64_t positions) const {
  ModelContext other = *this;
  other.options_ = options;
  other.rope_ = Rope(*spec_, positions, options);
  return other;
}

void ModelContext::cover(std::int64_t positions) {
  if (positions > rope_.positions()) rope_ = Rope(*spec_, std::max(positions, 2 * rope_.positions()), options_);
}

}  // namespace pq::nn
