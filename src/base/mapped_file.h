#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

#include "base/map_faults.h"

namespace pq {

/// A whole file mapped read-only into memory. Pages are the kernel's, not private memory of the process. A file that is
/// cut short while it is mapped ends the process with a message (report_map_faults), when the lost part is read.
class MappedFile {
 public:
  MappedFile() = default;
  /// Throws InputError for a path that leads nowhere (refuse_missing) or to no regular file, SystemError when the file
  /// cannot be opened or mapped. An empty file gives an empty span.
  explicit MappedFile(const std::filesystem::path& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }
  const std::filesystem::path& path() const noexcept { return path_; }

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  MappedRange range_;
};

}  // namespace pq
