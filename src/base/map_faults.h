#pragma once

#include <cstddef>
#include <string>
#include <utility>

namespace pq {

/// Notes that the bytes at `address` are those of a file in memory, for as long as it lives. Reading a page that the
/// file does not have any more (it was cut short meanwhile, or its disk fails) is a signal, which says nothing of
/// files.
class MappedRange {
 public:
  MappedRange() = default;
  /// `message`: what to say when these bytes cannot be had.
  MappedRange(const void* address, std::size_t size, std::string message);
  MappedRange(MappedRange&& other) noexcept : entry_(std::exchange(other.entry_, nullptr)) {}
  MappedRange& operator=(MappedRange&& other) noexcept {
    std::swap(entry_, other.entry_);
    return *this;
  }
  MappedRange(const MappedRange&) = delete;
  MappedRange& operator=(const MappedRange&) = delete;
  ~MappedRange();

  struct Entry;

 private:
  Entry* entry_ = nullptr;
};

/// From now on SIGBUS at an address of a MappedRange ends the process with its message on stderr and exit code 2. At
/// any other address it does what it did before.
void report_map_faults();

}  // namespace pq
