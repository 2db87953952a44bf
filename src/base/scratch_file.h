#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

#include "base/map_faults.h"

namespace pq {

/// Memory that lies in a file without a name: mapped shared, so that its pages are the kernel's and can leave for the
/// disk, and gone with the process, however that ends. Its space is reserved before a byte is touched, because storing
/// to a mapped hole on a full disk kills the process (SIGBUS). Starts as zeros.
class ScratchFile {
 public:
  /// Throws SystemError naming the directory, the bytes needed and the bytes free when the disk cannot hold it;
  /// InputError when `directory` is not there or not writable.
  ScratchFile(const std::filesystem::path& directory, std::uint64_t bytes);
  ScratchFile(ScratchFile&& other) noexcept;
  ScratchFile& operator=(ScratchFile&& other) noexcept;
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;
  ~ScratchFile();

  std::span<std::byte> bytes() const noexcept { return {data_, size_}; }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  MappedRange range_;
};

}  // namespace pq
