#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "base/index.h"
#include "base/parallel_for.h"
#include "runtime/aligned_buffer.h"

namespace pq::runtime {

/// Working memory of kernels: a piece for every thread.
class Scratch {
 public:
  /// Makes the pieces so large and so many; never fewer or smaller than before.
  void cover(std::size_t bytes, int threads) {
    if (bytes <= bytes_ && threads <= threads_) return;
    bytes_ = std::max(bytes_, (bytes + 4095) / 4096 * 4096);
    threads_ = std::max(threads_, threads);
    memory_ = AlignedBuffer(bytes_ * index(threads_));
  }
  std::byte* of(std::size_t thread) { return memory_.data() + thread * bytes_; }

 private:
  std::size_t bytes_ = 0;
  int threads_ = 0;
  AlignedBuffer memory_;
};

/// Calls body(row, scratch) for rows 0 .. count - 1, on several threads where the rows are long or many enough.
template <typename Body>
void for_rows(std::int64_t count, std::int64_t values_in_a_row, Scratch& scratch, const Body& body) {
  constexpr std::size_t worth_a_thread = 8192;  // values to norm or quantize
  const auto all = [&](std::size_t begin, std::size_t end, std::size_t thread) {
    for (std::size_t row = begin; row < end; ++row) body(static_cast<std::int64_t>(row), scratch.of(thread));
  };
  const std::size_t grain = std::max<std::size_t>(1, worth_a_thread / index(values_in_a_row));
  parallel_ranges(index(count), grain, Split::fine, all);
}

}  // namespace pq::runtime
