#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "kernels/kernels.h"
#include "runtime/linear.h"
#include "runtime/rows.h"
#include "runtime/scratch.h"

namespace pq::runtime {

/// Tokens that go through the layers together.
inline constexpr std::int64_t most_rows = 512;
/// Tokens of one attention task.
inline constexpr std::int64_t attention_tile = 16;

/// What the size of a model's workspaces follows from.
struct WorkspaceShape {
  std::int64_t hidden_size;
  std::int64_t query_size;
  std::int64_t kv_size;
  std::int64_t intermediate_size;
  bool branches;               ///< attention and MLP do not go straight into the residual stream, or read it as it is
  std::int64_t most_segments;  ///< of any linear layer's input
  int most_bf16_planes;        ///< the same
  std::int64_t group_heads;    ///< query heads that share one KV head
  kernels::KvLayout kv;
};

/// The intermediate values of a forward pass over `rows` tokens.
struct Workspace {
  std::int64_t rows = 0;
  RowBuffer residual;  ///< [rows, hidden]
  RowBuffer query;     ///< [rows, query_size]
  RowBuffer key;       ///< [rows, kv_size]
  RowBuffer value;     ///< [rows, kv_size]
  RowBuffer attended;  ///< [rows, query_size]
  RowBuffer product;   ///< [rows, intermediate]
  RowBuffer branch;    ///< [rows, hidden], where the model needs it: the residual stream as a layer reads it, and what
                       ///< o_proj or down_proj gave
  LinearBuffers linear;
  Scratch scratch;

  /// Makes room for so many rows and threads. Throws SystemError when there is not that much memory.
  void cover(const WorkspaceShape& shape, std::int64_t rows_needed, int threads);
};

/// Memory of forward passes, lent to one of them at a time and kept for the next.
class WorkspacePool {
 public:
  std::unique_ptr<Workspace> take() const;
  void give_back(std::unique_ptr<Workspace> workspace) const;

 private:
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Workspace>> idle_;
};

/// Lends a workspace while it lives.
class BorrowedWorkspace {
 public:
  explicit BorrowedWorkspace(const WorkspacePool& pool) : pool_(pool), workspace_(pool.take()) {}
  ~BorrowedWorkspace() { pool_.give_back(std::move(workspace_)); }
  BorrowedWorkspace(const BorrowedWorkspace&) = delete;
  BorrowedWorkspace& operator=(const BorrowedWorkspace&) = delete;
  Workspace& operator*() { return *workspace_; }
  Workspace* operator->() { return workspace_.get(); }

 private:
  const WorkspacePool& pool_;
  std::unique_ptr<Workspace> workspace_;
};

}  // namespace pq::runtime
