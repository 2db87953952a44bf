#pragma once

#include <fmt/format.h>
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>
#include <utility>

#include "base/error.h"

namespace pq::runtime {

inline constexpr std::int64_t round_up(std::int64_t x, std::int64_t unit) { return (x + unit - 1) / unit * unit; }

/// Zeroed memory for kernels, aligned to 64 bytes (large ones to 2 MiB, so that the system can back them with huge
/// pages). Pages are the system's until they are touched.
class AlignedBuffer {
 public:
  enum class Pages {
    huge,    ///< read and written as a whole
    sparse,  ///< touched here and there: pages as small as they come
  };

  AlignedBuffer() = default;
  /// Throws SystemError when there is not that much memory.
  explicit AlignedBuffer(std::size_t bytes, Pages pages = Pages::huge) : size_(bytes) {
    if (bytes == 0) return;
    const bool large = bytes >= huge_page && pages == Pages::huge;
    if (bytes > std::numeric_limits<std::size_t>::max() / 2) refuse(bytes);
    mapped_ = bytes + (large ? huge_page : 0);
    void* memory = ::mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) refuse(bytes);
    base_ = static_cast<std::byte*>(memory);
    data_ = base_;
    if (large) {
      data_ += (huge_page - reinterpret_cast<std::uintptr_t>(base_) % huge_page) % huge_page;
      ::madvise(data_, bytes, MADV_HUGEPAGE);  // a wish: without it everything works, only slower
    }
  }
  AlignedBuffer(AlignedBuffer&& other) noexcept { swap(other); }
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    AlignedBuffer taken(std::move(other));
    swap(taken);
    return *this;
  }
  AlignedBuffer(const AlignedBuffer&) = delete;
  AlignedBuffer& operator=(const AlignedBuffer&) = delete;
  ~AlignedBuffer() {
    if (base_ != nullptr) ::munmap(base_, mapped_);
  }

  template <typename T>
  static AlignedBuffer of(std::size_t count, Pages pages = Pages::huge) {
    if (count > std::numeric_limits<std::size_t>::max() / 2 / sizeof(T)) refuse(count);
    return AlignedBuffer(count * sizeof(T), pages);
  }

  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  /// The whole buffer as numbers.
  template <typename T>
  std::span<T> as() {
    static_assert(std::is_trivial_v<T>);
    return {reinterpret_cast<T*>(data_), size_ / sizeof(T)};
  }
  template <typename T>
  std::span<const T> as() const {
    static_assert(std::is_trivial_v<T>);
    return {reinterpret_cast<const T*>(data_), size_ / sizeof(T)};
  }

 private:
  static constexpr std::size_t huge_page = std::size_t{2} << 20;

  [[noreturn]] static void refuse(std::size_t bytes) {
    throw SystemError("memory", fmt::format("{} bytes cannot be had", bytes),
                      "use a smaller model or a shorter context");
  }
  void swap(AlignedBuffer& other) noexcept {
    std::swap(base_, other.base_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(mapped_, other.mapped_);
  }

  std::byte* base_ = nullptr;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t mapped_ = 0;
};

}  // namespace pq::runtime
