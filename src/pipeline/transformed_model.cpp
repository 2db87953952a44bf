#include "pipeline/transformed_model.h"

#include <algorithm>

#include "nn/transformer.h"
#include "quant/quantizer.h"
#include "quant/recipe_transforms.h"

namespace pq::quant {

TransformedModel::TransformedModel(const io::HfCheckpoint& checkpoint, const Recipe& recipe,
                                   const at::TensorOptions& options)
    : checkpoint_(checkpoint),
      options_(options),
      transforms_(make_transforms(checkpoint.spec(), recipe, options.device())) {}

nn::Block TransformedModel::block(std::int64_t index, SiteTransforms& online) const {
  nn::Block block = nn::load_block(checkpoint_, index, options_);
  transforms_.transform_block(index, block, online);
  return block;
}

at::Tensor TransformedModel::embed(const at::Tensor& tokens) const {
  const at::Tensor rows =
      in_half(transforms_.embedding_rows(nn::embedding_rows(checkpoint_, tokens, options_)), tensor_names::embedding)
          .to(options_.dtype().toScalarType());
  return spec().embedding_scale == 1 ? rows : rows * spec().embedding_scale;
}

at::Tensor TransformedModel::final_norm() const {
  return transforms_.final_norm(nn::load_tensor(checkpoint_, tensor_names::final_norm, options_));
}

at::Tensor TransformedModel::lm_head(at::ScalarType type) const {
  at::Tensor head = at::empty({spec().vocab_size, spec().hidden_size}, options_.dtype(type));
  std::int64_t next = 0;
  lm_head_rows([&](const std::vector<std::uint16_t>& bits) {
    const std::int64_t count = static_cast<std::int64_t>(bits.size()) / spec().hidden_size;
    head.narrow(0, next, count).copy_(from_half_bits(bits.data(), {count, spec().hidden_size}, options_));
    next += count;
  });
  return head;
}

void TransformedModel::embedding_rows(const ReceiveRows& receive) const {
  each_rows(
      tensor_names::embedding, [this](const at::Tensor& rows) { return transforms_.embedding_rows(rows); }, receive);
}

void TransformedModel::lm_head_rows(const ReceiveRows& receive) const {
  const at::Tensor norm = nn::load_tensor(checkpoint_, tensor_names::final_norm, options_);
  each_rows(
      tensor_names::lm_head, [&](const at::Tensor& rows) { return transforms_.lm_head_rows(rows, norm); }, receive);
}

void TransformedModel::each_rows(std::string_view name,
                                 const std::function<at::Tensor(const at::Tensor& rows)>& transform,
                                 const ReceiveRows& receive) const {
  constexpr std::int64_t values_together = std::int64_t{4} << 20;
  const std::int64_t step = std::max<std::int64_t>(1, values_together / spec().hidden_size);
  for (std::int64_t begin = 0; begin < spec().vocab_size; begin += step) {
    const std::int64_t count = std::min(step, spec().vocab_size - begin);
    receive(checked_half_bits(transform(nn::load_rows(checkpoint_, name, begin, count, options_)), name));
  }
}

}  // namespace pq::quant
