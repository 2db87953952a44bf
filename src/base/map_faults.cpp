#include "base/map_faults.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdint>
#include <mutex>
#include <string_view>

namespace pq {

/// Entries stay in the list for good, so that a signal handler can walk it at any time; those without a range are used
/// again.
struct MappedRange::Entry {
  std::atomic<std::uintptr_t> begin{0};  // 0: free, or being filled in
  std::uintptr_t end = 0;
  std::string message;
  bool taken = true;
  Entry* next = nullptr;
};

namespace {

std::atomic<MappedRange::Entry*> first_entry{nullptr};
static_assert(std::atomic<MappedRange::Entry*>::is_always_lock_free);
static_assert(std::atomic<std::uintptr_t>::is_always_lock_free);
std::mutex entries_mutex;
std::atomic_flag reported = ATOMIC_FLAG_INIT;
struct sigaction action_before {};

MappedRange::Entry* take_entry() {
  for (MappedRange::Entry* entry = first_entry.load(); entry != nullptr; entry = entry->next) {
    if (!std::exchange(entry->taken, true)) return entry;
  }
  auto* entry = new MappedRange::Entry;
  entry->next = first_entry.load();
  first_entry.store(entry);
  return entry;
}

void write_to_stderr(std::string_view text) {
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text.data(), text.size());
}

extern "C" void end_on_map_fault(int signal, siginfo_t* info, void*) {
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  for (const MappedRange::Entry* entry = first_entry.load(); entry != nullptr; entry = entry->next) {
    const std::uintptr_t begin = entry->begin.load();
    if (begin == 0 || address < begin || address >= entry->end) continue;
    while (reported.test_and_set()) ::pause();  // another thread ends the process
    write_to_stderr("error: ");
    write_to_stderr(entry->message);
    write_to_stderr("\n");
    ::_exit(2);
  }
  ::sigaction(signal, &action_before, nullptr);  // comes again when the access is repeated
}

}  // namespace

MappedRange::MappedRange(const void* address, std::size_t size, std::string message) {
  const std::lock_guard lock(entries_mutex);
  entry_ = take_entry();
  entry_->message = std::move(message);
  entry_->end = reinterpret_cast<std::uintptr_t>(address) + size;
  entry_->begin.store(reinterpret_cast<std::uintptr_t>(address));
}

MappedRange::~MappedRange() {
  if (entry_ == nullptr) return;
  const std::lock_guard lock(entries_mutex);
  entry_->begin.store(0);
  entry_->taken = false;
}

void report_map_faults() {
  struct sigaction action {};
  action.sa_sigaction = end_on_map_fault;
  action.sa_flags = SA_SIGINFO;
  ::sigemptyset(&action.sa_mask);
  ::sigaction(SIGBUS, &action, &action_before);
}

}  // namespace pq
