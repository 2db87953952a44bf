#include "runtime/workspace.h"

#include <algorithm>
#include <utility>

namespace pq::runtime {

void Workspace::cover(const WorkspaceShape& shape, std::int64_t rows_needed, int threads) {
  const std::int64_t widest = std::max({shape.hidden_size, shape.query_size, shape.intermediate_size});
  if (rows_needed > rows) {
    rows = rows_needed <= 8 ? 8 : rows_needed <= 64 ? 64 : most_rows;
    residual = RowBuffer(rows, shape.hidden_size);
    query = RowBuffer(rows, shape.query_size);
    key = RowBuffer(rows, shape.kv_size);
    value = RowBuffer(rows, shape.kv_size);
    attended = RowBuffer(rows, shape.query_size);
    product = RowBuffer(rows, shape.intermediate_size);
    if (shape.branches) branch = RowBuffer(rows, shape.hidden_size);
    linear = LinearBuffers(rows, shape.hidden_size, widest, shape.most_segments, shape.most_bf16_planes);
  }
  const std::int64_t attention_rows = std::min(rows, attention_tile) * shape.group_heads;
  scratch.cover(std::max(kernels::attention_scratch_bytes(shape.kv, attention_rows),
                         kernels::gemm_scratch_bytes(round_up(widest, kernels::column_block))),
                threads);
}

std::unique_ptr<Workspace> WorkspacePool::take() const {
  const std::lock_guard lock(mutex_);
  if (idle_.empty()) return std::make_unique<Workspace>();
  std::unique_ptr<Workspace> workspace = std::move(idle_.back());
  idle_.pop_back();
  return workspace;
}

void WorkspacePool::give_back(std::unique_ptr<Workspace> workspace) const {
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(workspace));
}

}  // namespace pq::runtime
