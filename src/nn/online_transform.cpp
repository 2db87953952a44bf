#include "nn/online_transform.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace pq::nn {
namespace {

at::Tensor matrix_of(const std::vector<float>& values, at::IntArrayRef shape, const at::TensorOptions& options) {
  at::Tensor plain = at::empty(shape, at::kFloat);
  std::copy(values.begin(), values.end(), plain.data_ptr<float>());
  return plain.to(options);
}

at::Tensor indices_of(const std::vector<std::int32_t>& source, const at::Device& device) {
  at::Tensor indices = at::empty({static_cast<std::int64_t>(source.size())}, at::kLong);
  std::copy(source.begin(), source.end(), indices.data_ptr<std::int64_t>());
  return indices.to(device);
}

at::Tensor inverted(const at::Tensor& matrices) {
  try {
    return at::linalg_inv(matrices).transpose(-2, -1).contiguous();
  } catch (const c10::Error&) {
    throw InputError("site transform", fmt::format("a matrix of {0} x {0} has no inverse", matrices.size(-1)));
  }
}

}  // namespace

OnlineTransform::OnlineTransform(const SiteTransform& transform, std::int64_t size, const at::TensorOptions& options)
    : size_(size), dtype_(options.dtype().toScalarType()) {
  check_transform(transform, size);
  for (const TransformStep& step : transform.steps) {
    if (const auto* gather = std::get_if<GatherStep>(&step)) {
      steps_.emplace_back(Gather{indices_of(gather->source, options.device())});
    } else if (const auto* multiply = std::get_if<MultiplyStep>(&step)) {
      steps_.emplace_back(Multiply{matrix_of(multiply->factors, {size}, options)});
    } else if (const auto* hadamard = std::get_if<HadamardStep>(&step)) {
      steps_.emplace_back(Hadamard(hadamard->order, options));
    } else if (const auto* diagonal = std::get_if<BlockDiagonalStep>(&step)) {
      steps_.emplace_back(
          BlockDiagonal{matrix_of(diagonal->matrices, {diagonal->count, diagonal->block, diagonal->block}, options)});
    } else {
      const auto& kronecker = std::get<KroneckerStep>(step);
      steps_.emplace_back(Kronecker{matrix_of(kronecker.left_matrix, {kronecker.left, kronecker.left}, options),
                                    matrix_of(kronecker.right_matrix, {kronecker.right, kronecker.right}, options)});
    }
  }
}

at::Tensor OnlineTransform::apply(const Step& step, const at::Tensor& x) {
  if (const auto* gather = std::get_if<Gather>(&step)) return x.index_select(-1, gather->source);
  if (const auto* multiply = std::get_if<Multiply>(&step)) return x * multiply->factors;
  if (const auto* hadamard = std::get_if<Hadamard>(&step)) {
    if (hadamard->order() == x.size(-1)) return hadamard->apply(x);
    return hadamard->apply(x.reshape({-1, hadamard->order()})).reshape(x.sizes());
  }
  if (const auto* diagonal = std::get_if<BlockDiagonal>(&step)) {
    const at::Tensor& matrices = diagonal->matrices;
    const std::int64_t block = matrices.size(1);
    if (matrices.size(0) == 1) return at::mm(x.reshape({-1, block}), matrices[0]).reshape(x.sizes());
    const at::Tensor blocks = x.reshape({-1, matrices.size(0), block}).transpose(0, 1);  // [blocks, rows, block]
    return at::bmm(blocks, matrices).transpose(0, 1).reshape(x.sizes());
  }
  const auto& kronecker = std::get<Kronecker>(step);
  const at::Tensor rows = x.reshape({-1, kronecker.left.size(0), kronecker.right.size(0)});
  return at::matmul(kronecker.left.t(), at::matmul(rows, kronecker.right)).reshape(x.sizes());
}

OnlineTransform::Step OnlineTransform::inverse_transposed(const Step& step) {
  if (const auto* multiply = std::get_if<Multiply>(&step)) return Multiply{multiply->factors.reciprocal()};
  if (const auto* diagonal = std::get_if<BlockDiagonal>(&step)) return BlockDiagonal{inverted(diagonal->matrices)};
  if (const auto* kronecker = std::get_if<Kronecker>(&step)) {
    return Kronecker{inverted(kronecker->left), inverted(kronecker->right)};
  }
  return step;
}

void OnlineTransform::require_rows(const at::Tensor& x) const {
  if (!empty() && x.size(-1) != size_) {
    throw InputError("site transform", fmt::format("a row of {} values does not fit {}", x.size(-1), size_));
  }
}

at::Tensor OnlineTransform::apply(const at::Tensor& x) const {
  require_rows(x);
  if (empty()) return x;
  at::Tensor y = x.to(dtype_);
  for (const Step& step : steps_) y = apply(step, y);
  return y.to(x.scalar_type());
}

at::Tensor OnlineTransform::transform_weights(const at::Tensor& weights) const {
  require_rows(weights);
  if (empty()) return weights;
  at::Tensor y = weights.to(dtype_);
  for (const Step& step : steps_) y = apply(inverse_transposed(step), y);
  return y.to(weights.scalar_type());
}

BlockTransforms::BlockTransforms(const SiteTransforms& transforms, const ModelSpec& spec,
                                 const at::TensorOptions& options) {
  check_site_transforms(transforms, spec);
  for (const Site site : quantized_sites) {
    if (transforms[site].empty()) continue;
    sites[site] = OnlineTransform(transforms[site], transform_size(spec, site).value(), options);
  }
  const SiteTransform of_query = inverse_transposed(transforms[Site::k_cache]);
  query =
      of_query == transforms[Site::k_cache] ? sites[Site::k_cache] : OnlineTransform(of_query, spec.head_dim, options);
}

}  // namespace pq::nn
