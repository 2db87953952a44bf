#include "base/memory_usage.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <fstream>
#include <mutex>
#include <string>
#include <thread>

namespace pq {
namespace {

std::uint64_t kib_field(const char* path, const std::string& key) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    if (line.starts_with(key)) return std::stoull(line.substr(key.size())) * 1024;
  }
  return 0;
}

}  // namespace

std::uint64_t peak_resident_bytes() { return kib_field("/proc/self/status", "VmHWM:"); }
std::uint64_t private_bytes() { return kib_field("/proc/self/status", "RssAnon:"); }
std::uint64_t available_bytes() { return kib_field("/proc/meminfo", "MemAvailable:"); }

struct PrivateMemoryPeak::State {
  std::atomic<std::uint64_t> peak{0};
  std::mutex mutex;
  std::condition_variable wake;
  bool stop = false;
  std::thread sampler;
};

PrivateMemoryPeak::PrivateMemoryPeak() : state_(new State) {
  state_->sampler = std::thread([state = state_] {
    std::unique_lock lock(state->mutex);
    do {
      state->peak = std::max(state->peak.load(), private_bytes());
    } while (!state->wake.wait_for(lock, std::chrono::milliseconds(50), [&] { return state->stop; }));
  });
}

PrivateMemoryPeak::~PrivateMemoryPeak() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stop = true;
  }
  state_->wake.notify_all();
  state_->sampler.join();
  delete state_;
}

std::uint64_t PrivateMemoryPeak::bytes() const { return std::max(state_->peak.load(), private_bytes()); }

}  // namespace pq
