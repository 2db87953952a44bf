#include "runtime/online_transform.h"

#include <algorithm>
#include <cmath>

#include "base/index.h"

namespace pq::runtime {
namespace {

void add_scaled(float* out, const float* x, float factor, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) out[i] += factor * x[i];
}

void apply(const GatherStep& gather, float* row, std::int64_t size, float* scratch) {
  std::copy_n(row, size, scratch);
  for (std::int64_t i = 0; i < size; ++i) row[i] = scratch[gather.source[index(i)]];
}

void apply(const MultiplyStep& multiply_step, float* row, std::int64_t size, float* /*scratch*/) {
  const float* factors = multiply_step.factors.data();
  for (std::int64_t i = 0; i < size; ++i) row[i] *= factors[i];
}

void apply(const BlockDiagonalStep& diagonal, float* row, std::int64_t size, const kernels::KernelTable& table,
           float* scratch) {
  const std::int64_t block = diagonal.block;
  const std::int64_t shared = size / block / diagonal.count;  // neighbouring blocks that a matrix serves
  const float* matrix = diagonal.matrices.data();
  for (std::int64_t first = 0; first < size; first += shared * block, matrix += block * block) {
    table.multiply_rows(row + first, shared, block, matrix, scratch);
  }
}

// With the row viewed as X [left, right]: X R, then L^T times that.
void apply(const KroneckerStep& kronecker, float* row, std::int64_t size, const kernels::KernelTable& table,
           float* scratch) {
  const std::int64_t left = kronecker.left;
  const std::int64_t right = kronecker.right;
  table.multiply_rows(row, left, right, kronecker.right_matrix.data(), scratch);
  std::copy_n(row, size, scratch);
  std::fill_n(row, size, 0.0F);
  for (std::int64_t i = 0; i < left; ++i) {
    for (std::int64_t j = 0; j < left; ++j) {
      add_scaled(row + j * right, scratch + i * right, kronecker.left_matrix[index(i * left + j)], right);
    }
  }
}

}  // namespace

OnlineTransform::OnlineTransform(const SiteTransform& transform, std::int64_t size) {
  if (transform.empty()) return;
  check_transform(transform, size);
  auto parts = std::make_shared<Parts>(Parts{transform, size, std::vector<Rotation>(transform.steps.size())});
  for (std::size_t i = 0; i < transform.steps.size(); ++i) {
    const auto* hadamard = std::get_if<HadamardStep>(&transform.steps[i]);
    if (hadamard == nullptr) continue;
    HadamardPlan& plan = parts->rotations[i].plan = plan_hadamard(hadamard->order);
    if (plan.base > 1) {
      const std::vector<std::int8_t> base = hadamard_base(plan.base);
      parts->rotations[i].base.assign(base.begin(), base.end());
    }
    // The kernel takes a repeated matrix as more diagonal blocks.
    plan.blocks *= size / hadamard->order;
    plan.order = size;
  }
  parts_ = std::move(parts);
}

const SiteTransform& OnlineTransform::definition() const {
  static const SiteTransform none;
  return parts_ == nullptr ? none : parts_->transform;
}

kernels::Hadamard OnlineTransform::Rotation::kernel() const {
  return {plan.order,
          plan.blocks,
          plan.base,
          plan.power,
          base.empty() ? nullptr : base.data(),
          static_cast<float>(1.0 / std::sqrt(static_cast<double>(plan.block_order())))};
}

void OnlineTransform::apply(float* vectors, std::int64_t count, const kernels::KernelTable& table,
                            std::byte* scratch) const {
  if (empty()) return;
  auto* floats = reinterpret_cast<float*>(scratch);
  const std::int64_t size = parts_->size;
  for (std::size_t i = 0; i < parts_->transform.steps.size(); ++i) {
    const TransformStep& step = parts_->transform.steps[i];
    if (std::holds_alternative<HadamardStep>(step)) {
      const kernels::Hadamard plan = parts_->rotations[i].kernel();
      for (std::int64_t v = 0; v < count; ++v) table.hadamard(vectors + v * size, plan, floats);
      continue;
    }
    for (std::int64_t v = 0; v < count; ++v) {
      float* row = vectors + v * size;
      if (const auto* gather = std::get_if<GatherStep>(&step)) {
        runtime::apply(*gather, row, size, floats);
      } else if (const auto* multiply_step = std::get_if<MultiplyStep>(&step)) {
        runtime::apply(*multiply_step, row, size, floats);
      } else if (const auto* diagonal = std::get_if<BlockDiagonalStep>(&step)) {
        runtime::apply(*diagonal, row, size, table, floats);
      } else if (const auto* kronecker = std::get_if<KroneckerStep>(&step)) {
        runtime::apply(*kronecker, row, size, table, floats);
      }
    }
  }
}

}  // namespace pq::runtime
