#pragma once

#include <cstddef>
#include <memory>

#include "kernels/kernels.h"

namespace pq::kernels {

/// Per second, all threads together. Operations count a multiply-add as two.
struct MachineLimits {
  double int8_ops = 0;         ///< products of bytes, the vector instructions of the table's int_gemm
  double int8_matrix_ops = 0;  ///< the same on a matrix unit, 0 where the table has none
  double f32_ops = 0;          ///< multiply-adds of float32
  double bf16_ops = 0;         ///< products of bf16, 0 where the table has none
  double bf16_matrix_ops = 0;  ///< the same on a matrix unit
  double read_bytes = 0;       ///< read from memory
};

/// Measures what this machine can do now, with thread_count() threads and the instructions of one table.
class LimitProbe {
 public:
  /// Reads are measured over a buffer of `memory_bytes` (at least 1 MiB), which is kept; more than the caches hold.
  /// Throws SystemError when there is not that much memory.
  LimitProbe(const KernelTable& table, std::size_t memory_bytes);

  /// The best of `tries` short runs of each kind. A try takes about 10 ms a kind, the reads as long as the buffer
  /// takes.
  MachineLimits measure(int tries) const;
  double int8_ops(int tries) const;
  double f32_ops(int tries) const;
  double bf16_ops(int tries) const;
  double read_bytes(int tries) const;

 private:
  const KernelTable& table_;
  std::shared_ptr<std::byte> mapped_;
  std::byte* memory_ = nullptr;  // mapped_ from its first huge page on
  std::size_t bytes_ = 0;
};

}  // namespace pq::kernels
