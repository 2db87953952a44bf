#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>

namespace pq::quant {

/// Where streams of hidden states lie while a model is fine-tuned: in memory, or in mapped files without a name that
/// are gone with the process.
class StreamPlace {
 public:
  /// In memory.
  StreamPlace() = default;
  /// In mapped files below `directory`.
  explicit StreamPlace(std::filesystem::path directory) : directory_(std::move(directory)) {}
  /// For `bytes` in all: in `asked` when it is not empty; else in memory when they take at most half of this process's
  /// part of what is free, or in `fallback`. Says in the log what was chosen and why.
  static StreamPlace choose(std::uint64_t bytes, const std::filesystem::path& asked,
                            const std::filesystem::path& fallback);

  bool on_disk() const { return !directory_.empty(); }
  /// float32 on the CPU, not initialized. Throws SystemError naming the directory when the disk cannot hold it.
  at::Tensor allocate(at::IntArrayRef shape) const;

 private:
  std::filesystem::path directory_;
};

}  // namespace pq::quant
