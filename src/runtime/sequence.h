#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/index.h"
#include "runtime/kv_cache.h"
#include "runtime/model_parts.h"
#include "runtime/rope.h"

namespace pq::runtime {

/// One sequence's KV cache behind the model's prefix.
struct Sequence {
  Sequence(const ModelParts& parts, std::int64_t capacity);

  KvCache cache;
  std::int64_t capacity;
  std::int64_t length = 0;  ///< tokens in the cache, the prefix not counted
  /// For each of the model's tables, its chunks.
  std::vector<std::vector<std::shared_ptr<const RopeChunk>>> ropes;

  /// Makes the rotary tables reach the first `tokens` tokens.
  void cover(const ModelParts& parts, std::int64_t tokens);
};

/// New tokens of one sequence.
struct Run {
  Sequence* sequence;
  std::span<const std::int32_t> tokens;
};

/// Runs whose tokens go through the layers together: row by row, one run after the other.
class Batch {
 public:
  explicit Batch(std::span<const Run> runs);

  std::int64_t rows() const { return static_cast<std::int64_t>(run_of_.size()); }
  std::int64_t runs() const { return static_cast<std::int64_t>(runs_.size()); }
  const Run& run(std::int64_t i) const { return runs_[index(i)]; }
  std::int64_t first_row(std::int64_t run) const { return first_row_[index(run)]; }
  std::int64_t run_of(std::int64_t row) const { return run_of_[index(row)]; }
  std::int32_t token(std::int64_t row) const { return run(run_of(row)).tokens[index(row - first_row(run_of(row)))]; }
  /// Where a row's token stands in its sequence, the prefix not counted.
  std::int64_t position(std::int64_t row) const {
    return run(run_of(row)).sequence->length + row - first_row(run_of(row));
  }

 private:
  std::span<const Run> runs_;
  std::vector<std::int64_t> first_row_;  // [runs]
  std::vector<std::int64_t> run_of_;     // [rows]
};

}  // namespace pq::runtime
