#pragma once

#include <cstdint>

namespace pq {

/// Peak resident set of this process in bytes (VmHWM: mapped files included).
std::uint64_t peak_resident_bytes();

/// Private (anonymous) memory of this process now, in bytes: RssAnon of /proc/self/status, which leaves mapped files
/// out.
std::uint64_t private_bytes();

/// Memory that can be had without swapping, in bytes: MemAvailable of /proc/meminfo.
std::uint64_t available_bytes();

/// Samples private_bytes() from a thread of its own while it lives.
class PrivateMemoryPeak {
 public:
  PrivateMemoryPeak();
  ~PrivateMemoryPeak();
  PrivateMemoryPeak(const PrivateMemoryPeak&) = delete;
  PrivateMemoryPeak& operator=(const PrivateMemoryPeak&) = delete;
  /// Largest value seen so far, in bytes.
  std::uint64_t bytes() const;

 private:
  struct State;
  State* state_;
};

}  // namespace pq
