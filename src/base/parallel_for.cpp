#include "base/parallel_for.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace pq {
namespace {

int processors_of_system() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
}

// Waking a sleeping thread costs more than most of the work that is shared here, so threads look for work (or for its
// end) this long before they sleep.
constexpr std::chrono::microseconds patience{60};

inline void pause_processor() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// Whether `done()` came true while looking for it.
template <typename Done>
bool look_for(Done done) {
  const auto start = std::chrono::steady_clock::now();
  do {
    for (int i = 0; i < 64; ++i) {
      if (done()) return true;
      pause_processor();
    }
  } while (std::chrono::steady_clock::now() - start < patience);
  return false;
}

struct Work {
  RangeBody body;
  std::size_t count = 0;
  std::size_t chunk = 1;
  std::atomic<std::size_t> next{0};
  std::mutex mutex{};
  std::exception_ptr error{};

  void drain(std::size_t thread) {
    for (;;) {
      const std::size_t begin = next.fetch_add(chunk, std::memory_order_relaxed);
      if (begin >= count) return;
      try {
        body(begin, std::min(begin + chunk, count), thread);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!error) error = std::current_exception();
        next.store(count, std::memory_order_relaxed);
      }
    }
  }
};

thread_local bool inside_body = false;

/// Threads that look for work, then sleep. A region is open from the moment `door_` shows its number until the caller
/// closes it; a thread that comes too late finds it closed and touches nothing, so that the caller waits only for those
/// that came in.
class Pool {
 public:
  explicit Pool(int threads) {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { loop(static_cast<std::size_t>(i)); });
  }
  ~Pool() {
    stop_.store(true);
    announce();
    for (auto& worker : workers_) worker.join();
  }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  std::size_t threads() const { return workers_.size() + 1; }

  void run(Work& work) {
    work_ = &work;
    left_.store(0, std::memory_order_relaxed);
    door_.store(static_cast<std::uint64_t>(region_.load(std::memory_order_relaxed) + 1) << 32,
                std::memory_order_release);
    announce();
    inside_body = true;
    work.drain(0);
    inside_body = false;
    const auto entered = static_cast<std::uint32_t>(door_.fetch_or(closed, std::memory_order_acq_rel));
    const auto all_left = [&] { return left_.load(std::memory_order_acquire) == entered; };
    if (look_for(all_left)) return;
    for (std::uint32_t left = left_.load(std::memory_order_acquire); left != entered;
         left = left_.load(std::memory_order_acquire)) {
      left_.wait(left, std::memory_order_acquire);
    }
  }

 private:
  static constexpr std::uint64_t closed = std::uint64_t{1} << 31;

  void announce() {
    region_.fetch_add(1);
    if (sleepers_.load() > 0) region_.notify_all();
  }

  bool enter(std::uint32_t region) {
    std::uint64_t door = door_.load(std::memory_order_acquire);
    do {
      if (door >> 32 != region || (door & closed) != 0) return false;
    } while (!door_.compare_exchange_weak(door, door + 1, std::memory_order_acq_rel));
    return true;
  }

  void loop(std::size_t thread) {
    inside_body = true;
    std::uint32_t seen = 0;
    for (;;) {
      if (!look_for([&] { return region_.load(std::memory_order_acquire) != seen; })) {
        sleepers_.fetch_add(1);
        region_.wait(seen);
        sleepers_.fetch_sub(1);
      }
      seen = region_.load();
      if (stop_.load()) return;
      if (!enter(seen)) continue;
      work_->drain(thread);
      left_.fetch_add(1, std::memory_order_acq_rel);
      left_.notify_one();
    }
  }

  std::vector<std::thread> workers_;
  Work* work_ = nullptr;
  alignas(64) std::atomic<std::uint32_t> region_{0};
  std::atomic<std::uint32_t> sleepers_{0};
  alignas(64) std::atomic<std::uint64_t> door_{closed};  // region << 32 | closed | threads that came in
  alignas(64) std::atomic<std::uint32_t> left_{0};
  std::atomic<bool> stop_{false};
};

std::mutex pool_mutex;  // one region at a time; also guards the three below
std::unique_ptr<Pool> pool;
int threads_wanted = 0;
int available_processors = 0;

int wanted() {
  if (threads_wanted > 0) return threads_wanted;
  return available_processors > 0 ? available_processors : processors_of_system();
}

}  // namespace

void set_thread_count(int threads) {
  const std::lock_guard lock(pool_mutex);
  threads_wanted = threads;
  pool.reset();
}

void set_available_processors(int processors) {
  const std::lock_guard lock(pool_mutex);
  available_processors = processors;
  pool.reset();
}

int thread_count() {
  const std::lock_guard lock(pool_mutex);
  return pool ? static_cast<int>(pool->threads()) : wanted();
}

void parallel_ranges(std::size_t count, std::size_t grain, Split split, RangeBody body) {
  if (count == 0) return;
  grain = std::max<std::size_t>(1, grain);
  if (inside_body || count <= grain) {
    body(0, count, 0);
    return;
  }
  std::unique_lock lock(pool_mutex);
  if (!pool) {
    if (wanted() == 1) {
      lock.unlock();
      body(0, count, 0);
      return;
    }
    pool = std::make_unique<Pool>(wanted());
  }
  const std::size_t pieces = pool->threads() * (split == Split::fine ? 4 : 1);
  const std::size_t grains = (count + grain - 1) / grain;
  Work work{.body = body, .count = count, .chunk = (grains + pieces - 1) / pieces * grain};
  pool->run(work);
  if (work.error) std::rethrow_exception(work.error);
}

void parallel_for(std::size_t count, std::size_t grain, const std::function<void(std::size_t, std::size_t)>& body) {
  auto plain = [&](std::size_t begin, std::size_t end, std::size_t /*thread*/) { body(begin, end); };
  parallel_ranges(count, grain, Split::fine, plain);
}

}  // namespace pq
