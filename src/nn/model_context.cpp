#include "nn/model_context.h"

#include <algorithm>

namespace pq::nn {

namespace {

at::TensorOptions transform_options(const at::TensorOptions& options) {
  const bool wide = c10::typeMetaToScalarType(options.dtype()) == at::kDouble;
  return options.dtype(wide ? at::kDouble : at::kFloat);
}

}  // namespace

ModelContext::ModelContext(const ModelSpec& spec, const SiteTransforms& transforms, std::int64_t positions,
                           const at::TensorOptions& options)
    : spec_(&spec),
      options_(options),
      common_(transforms),
      common_transforms_(std::make_shared<const BlockTransforms>(transforms, spec, transform_options(options))),
      transforms_(static_cast<std::size_t>(spec.block_count), common_transforms_),
      rope_(spec, positions, options) {}

void ModelContext::set_transforms(std::int64_t index, const SiteTransforms& transforms) {
  transforms_.at(static_cast<std::size_t>(index)) =
      transforms == common_ ? common_transforms_
                            : std::make_shared<const BlockTransforms>(transforms, *spec_, transform_options(options_));
}

BlockContext ModelContext::block(std::int64_t index, const KeyValue* prefix) const {
  BlockContext context;
  context.spec = spec_;
  context.rope = &rope_;
  context.transforms = transforms_.at(static_cast<std::size_t>(index)).get();
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
