#pragma once

#include <cstdint>

#include "base/index.h"
#include "runtime/aligned_buffer.h"

namespace pq::runtime {

/// Rows of floats somewhere in memory, [count][stride].
struct Rows {
  float* values;
  std::int64_t stride;
  std::int64_t count;

  float* row(std::int64_t i) const { return values + i * stride; }
};
struct ConstRows {
  const float* values;
  std::int64_t stride;
  std::int64_t count;

  ConstRows(const float* first, std::int64_t floats, std::int64_t rows) : values(first), stride(floats), count(rows) {}
  ConstRows(const Rows& rows)  // NOLINT(google-explicit-constructor): the same rows
      : values(rows.values), stride(rows.stride), count(rows.count) {}
  const float* row(std::int64_t i) const { return values + i * stride; }
};

/// Memory for rows, each padded to a multiple of 32 floats with zeros that nothing writes to.
class RowBuffer {
 public:
  RowBuffer() = default;
  /// Throws SystemError when there is not that much memory.
  RowBuffer(std::int64_t rows, std::int64_t columns)
      : stride_(round_up(columns, 32)), memory_(AlignedBuffer::of<float>(index(rows * stride_))) {}

  std::int64_t stride() const { return stride_; }
  /// The first `count` rows.
  Rows rows(std::int64_t count) { return {memory_.as<float>().data(), stride_, count}; }
  ConstRows rows(std::int64_t count) const { return {memory_.as<float>().data(), stride_, count}; }

 private:
  std::int64_t stride_ = 0;
  AlignedBuffer memory_;
};

}  // namespace pq::runtime
