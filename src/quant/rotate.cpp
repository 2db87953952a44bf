#include "quant/rotate.h"

#include <string_view>

#include "base/random.h"

namespace pq::quant {

namespace {

/// [count] float64, -1 or +1.
at::Tensor random_signs(std::uint64_t seed, std::string_view stream, std::int64_t count) {
  Random random(seed, stream);
  at::Tensor signs = at::empty({count}, at::kDouble);
  for (std::int64_t i = 0; i < count; ++i) signs.data_ptr<double>()[i] = random.sign();
  return signs;
}

}  // namespace

Rotation::Rotation(const ModelSpec& spec, const RotationSettings& settings, std::uint64_t seed,
                   const at::Device& device)
    : spec_(spec), settings_(settings) {
  settings_.r1 = residual_rotation(spec, settings.r1);
  const auto options = at::TensorOptions().dtype(at::kDouble).device(device);
  if (settings_.r1 == ResidualRotation::fused) {
    signs_ = random_signs(seed, "rotation R1", spec.hidden_size).to(device);
  }
  if (settings.r2 && settings.signs) {
    value_signs_ = random_signs(seed, "rotation R2", spec.kv_size()).view({-1, spec.head_dim}).to(device);
  }
  if (settings.r4 && settings.signs) {
    product_signs_ = random_signs(seed, "rotation R4", spec.intermediate_size).to(device);
  }
  if (settings_.r1 != ResidualRotation::none) hidden_ = std::make_unique<nn::Hadamard>(spec.hidden_size, options);
  if (settings.r2) head_ = std::make_unique<nn::Hadamard>(spec.head_dim, options);
  if (settings.heads) heads_ = std::make_unique<nn::Hadamard>(spec.query_size(), options);
  if (settings.r4) intermediate_ = std::make_unique<nn::Hadamard>(spec.intermediate_size, options);
}

at::Tensor Rotation::times_r1(const at::Tensor& rows) const {
  return hidden_->apply(signs_.defined() ? rows * signs_ : rows);
}

SiteTransforms Rotation::online() const { return online_rotations(spec_, settings_); }

void Rotation::transform_block(std::int64_t /*index*/, nn::Block& block, SiteTransforms& left_online) const {
  const at::NoGradGuard no_grad;
  append(left_online, online());
  const auto dtype = block[LinearId::q].weight.scalar_type();
  const std::int64_t head_dim = spec_.head_dim;
  for (const LinearId id : all_linears) {
    nn::Linear& linear = block[id];
    at::Tensor weight = linear.weight.to(at::kDouble);
    at::Tensor bias = linear.bias.defined() ? linear.bias.to(at::kDouble) : at::Tensor();
    const bool writes_residual = id == LinearId::o || id == LinearId::down;
    if (settings_.r1 != ResidualRotation::none) {
      if (writes_residual && settings_.r1 == ResidualRotation::fused) {
        weight = times_r1(weight.t().contiguous()).t().contiguous();
        if (bias.defined()) bias = times_r1(bias);
      } else if (!writes_residual) {
        if (const auto norm = norm_read_by(spec_, id)) weight = weight * block.norms[*norm].to(at::kDouble);
        weight = times_r1(weight);
      }
    }
    if (settings_.r2 && id == LinearId::v) {
      const auto rotated = [&](const at::Tensor& heads) {  // [.., kv_heads, head_dim]
        return head_->apply(value_signs_.defined() ? heads * value_signs_ : heads);
      };
      const at::Tensor columns = weight.t().contiguous().view({-1, spec_.kv_head_count, head_dim});
      weight = rotated(columns).reshape({-1, spec_.kv_size()}).t().contiguous();
      if (bias.defined()) bias = rotated(bias.view({spec_.kv_head_count, head_dim})).reshape({-1});
    }
    if (settings_.r2 && id == LinearId::o) {
      at::Tensor heads = weight.view({-1, spec_.head_count, head_dim});
      if (value_signs_.defined()) {
        heads = heads * value_signs_.repeat_interleave(spec_.head_count / spec_.kv_head_count, 0);
      }
      weight = head_->apply(heads).reshape({-1, spec_.query_size()});
    }
    if (settings_.heads && id == LinearId::o) weight = heads_->apply(weight);
    if (product_signs_.defined() && id == LinearId::up) {
      weight = weight * product_signs_.unsqueeze(1);
      if (bias.defined()) bias = bias * product_signs_;
    }
    if (settings_.r4 && id == LinearId::down) {
      weight = intermediate_->apply(product_signs_.defined() ? weight * product_signs_ : weight);
    }
    linear.weight = weight.to(dtype).contiguous();
    if (bias.defined()) linear.bias = bias.to(dtype).contiguous();
  }
  if (settings_.r1 != ResidualRotation::none) {
    for (const NormRow& norm : all_norms(spec_)) {
      if (!norm.readers.empty()) block.norms[norm.id] = at::ones_like(block.norms[norm.id]);
    }
  }
}

at::Tensor Rotation::embedding_rows(const at::Tensor& rows) const {
  if (settings_.r1 != ResidualRotation::fused) return rows;
  return times_r1(rows.to(at::kDouble)).to(rows.scalar_type());
}

at::Tensor Rotation::lm_head_rows(const at::Tensor& rows, const at::Tensor& norm) const {
  if (settings_.r1 != ResidualRotation::fused) return rows;
  return times_r1(rows.to(at::kDouble) * norm.to(at::kDouble)).to(rows.scalar_type());
}

at::Tensor Rotation::final_norm(const at::Tensor& norm) const {
  return settings_.r1 == ResidualRotation::fused ? at::ones_like(norm) : norm;
}

}  // namespace pq::quant
