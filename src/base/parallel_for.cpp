#include "base/parallel_for.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace pq {
namespace {

int available_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
}

struct Work {
  const std::function<void(std::size_t, std::size_t)>* body = nullptr;
  std::size_t count = 0;
  std::size_t chunk = 1;
  std::atomic<std::size_t> next{0};
  std::mutex mutex;
  std::exception_ptr error;

  void drain() {
    for (;;) {
      const std::size_t begin = next.fetch_add(chunk);
      if (begin >= count) return;
      try {
        (*body)(begin, std::min(begin + chunk, count));
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!error) error = std::current_exception();
        next.store(count);
      }
    }
  }
};

thread_local bool inside_body = false;

class Pool {
 public:
  explicit Pool(int threads) {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { loop(); });
  }
  ~Pool() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (auto& worker : workers_) worker.join();
  }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  void run(Work& work) {
    {
      const std::lock_guard lock(mutex_);
      work_ = &work;
      busy_ = workers_.size();
      ++generation_;
    }
    wake_.notify_all();
    inside_body = true;
    work.drain();
    inside_body = false;
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return busy_ == 0; });
    work_ = nullptr;
  }

 private:
  void loop() {
    inside_body = true;
    std::size_t seen = 0;
    for (;;) {
      Work* work = nullptr;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return stop_ || generation_ != seen; });
        if (stop_) return;
        seen = generation_;
        work = work_;
      }
      work->drain();
      {
        const std::lock_guard lock(mutex_);
        --busy_;
      }
      done_.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable done_;
  std::vector<std::thread> workers_;
  Work* work_ = nullptr;
  std::size_t generation_ = 0;
  std::size_t busy_ = 0;
  bool stop_ = false;
};

std::mutex pool_mutex;  // one parallel_for at a time; also guards the two below
std::unique_ptr<Pool> pool;
int threads_wanted = 0;

}  // namespace

void set_thread_count(int threads) {
  const std::lock_guard lock(pool_mutex);
  threads_wanted = threads;
  pool.reset();
}

int thread_count() {
  const std::lock_guard lock(pool_mutex);
  return threads_wanted > 0 ? threads_wanted : available_processors();
}

void parallel_for(std::size_t count, std::size_t grain, const std::function<void(std::size_t, std::size_t)>& body) {
  if (count == 0) return;
  grain = std::max<std::size_t>(1, grain);
  const auto threads = static_cast<std::size_t>(inside_body ? 1 : thread_count());
  if (threads == 1 || count <= grain) {
    body(0, count);
    return;
  }
  const std::lock_guard lock(pool_mutex);
  if (!pool) pool = std::make_unique<Pool>(static_cast<int>(threads));
  Work work;
  work.body = &body;
  work.count = count;
  work.chunk = std::max(grain, (count + threads * 4 - 1) / (threads * 4));
  pool->run(work);
  if (work.error) std::rethrow_exception(work.error);
}

}  // namespace pq
