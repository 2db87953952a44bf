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
      transforms_(static_cast<std::size_t>(spec.block_count), common_transforms_) {
  make_ropes(positions);
}

void ModelContext::make_ropes(std::int64_t positions) {
  ropes_.clear();
  rope_of_block_.clear();
  const std::vector<BlockSpec>& pattern = spec_->block_pattern;
  for (const BlockSpec& block : pattern) {
    const auto same = std::find_if(pattern.begin(), pattern.end(),
                                   [&](const BlockSpec& earlier) { return earlier.rope == block.rope; });
    const auto first = static_cast<std::size_t>(same - pattern.begin());
    if (first < rope_of_block_.size()) {
      rope_of_block_.push_back(rope_of_block_[first]);
      continue;
    }
    rope_of_block_.push_back(ropes_.size());
    ropes_.emplace_back(block.rope, spec_->rotary_channels(), positions, options_);
  }
}

void ModelContext::set_transforms(std::int64_t index, const SiteTransforms& transforms) {
  transforms_.at(static_cast<std::size_t>(index)) =
      transforms == common_ ? common_transforms_
                            : std::make_shared<const BlockTransforms>(transforms, *spec_, transform_options(options_));
}

BlockContext ModelContext::block(std::int64_t index, const KeyValue* prefix) const {
  BlockContext context;
  context.spec = spec_;
  context.rope = &ropes_[rope_of_block_[static_cast<std::size_t>(index) % rope_of_block_.size()]];
  context.transforms = transforms_.at(static_cast<std::size_t>(index)).get();
  context.prefix = prefix;
  context.window = spec_->window_of_block(index);
  return context;
}

ModelContext ModelContext::computing_in(const at::TensorOptions& options, std::int64_t positions) const {
  ModelContext other = *this;
  other.options_ = options;
  other.make_ropes(positions);
  return other;
}

void ModelContext::cover(std::int64_t positions) {
  if (positions > ropes_.front().positions()) make_ropes(std::max(positions, 2 * ropes_.front().positions()));
}

}  // namespace pq::nn
