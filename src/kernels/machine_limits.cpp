#include "kernels/machine_limits.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>

#include "base/error.h"
#include "base/parallel_for.h"
#include "base/stopwatch.h"

namespace pq::kernels {
namespace {

constexpr std::size_t huge_page = std::size_t{2} << 20;
constexpr std::size_t read_piece = std::size_t{1} << 20;

/// Operations per second of all threads, which run it at the same time.
double measure_peak(double (*peak)(std::int64_t) noexcept, int tries) {
  if (peak == nullptr) return 0;
  constexpr double wanted_seconds = 0.01;
  std::int64_t rounds = 1000;
  for (;;) {
    const Stopwatch stopwatch;
    peak(rounds);
    const double seconds = stopwatch.seconds();
    if (seconds > wanted_seconds / 4) {
      rounds =
          std::max<std::int64_t>(1, static_cast<std::int64_t>(static_cast<double>(rounds) * wanted_seconds / seconds));
      break;
    }
    rounds *= 4;
  }
  const auto threads = static_cast<std::size_t>(thread_count());
  double best = 0;
  for (int i = 0; i < tries; ++i) {
    std::atomic<double> operations{0};
    auto body = [&](std::size_t begin, std::size_t end, std::size_t /*thread*/) {
      for (std::size_t one = begin; one < end; ++one) operations.fetch_add(peak(rounds));
    };
    const Stopwatch stopwatch;
    parallel_ranges(threads, 1, Split::even, body);
    best = std::max(best, operations.load() / stopwatch.seconds());
  }
  return best;
}

}  // namespace

LimitProbe::LimitProbe(const KernelTable& table, std::size_t memory_bytes)
    : table_(table), bytes_(std::max(memory_bytes, read_piece) / read_piece * read_piece) {
  const std::size_t mapped = bytes_ + huge_page;
  void* memory = ::mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    throw SystemError("memory", fmt::format("{} bytes to measure the read bandwidth with cannot be had", mapped),
                      "close other programs");
  }
  mapped_ = {static_cast<std::byte*>(memory), [mapped](std::byte* all) { ::munmap(all, mapped); }};
  memory_ = mapped_.get() + (huge_page - reinterpret_cast<std::uintptr_t>(memory) % huge_page) % huge_page;
  ::madvise(memory_, bytes_, MADV_HUGEPAGE);  // a wish
  // Untouched pages are all one page of zeros, which the first cache holds.
  auto fill = [&](std::size_t begin, std::size_t end, std::size_t /*thread*/) {
    std::memset(memory_ + begin, 1, end - begin);
  };
  parallel_ranges(bytes_, read_piece, Split::even, fill);
}

MachineLimits LimitProbe::measure(int tries) const {
  return {.int8_ops = measure_peak(table_.int8_peak, tries),
          .int8_matrix_ops = measure_peak(table_.int8_matrix_peak, tries),
          .f32_ops = measure_peak(table_.f32_peak, tries),
          .bf16_ops = measure_peak(table_.bf16_peak, tries),
          .bf16_matrix_ops = measure_peak(table_.bf16_matrix_peak, tries),
          .read_bytes = read_bytes(tries)};
}

double LimitProbe::read_bytes(int tries) const {
  auto read = [&](std::size_t begin, std::size_t end, std::size_t /*thread*/) {
    table_.read_memory(memory_ + begin, static_cast<std::int64_t>(end - begin));
  };
  double best = 0;
  for (int i = 0; i < tries; ++i) {
    const Stopwatch stopwatch;
    parallel_ranges(bytes_, read_piece, Split::even, read);
    best = std::max(best, static_cast<double>(bytes_) / stopwatch.seconds());
  }
  return best;
}

}  // namespace pq::kernels
