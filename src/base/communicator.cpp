#include "base/communicator.h"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "base/error.h"
#include "base/launch.h"
#include "base/log.h"
#include "base/parallel_for.h"

#ifdef PQ_HAVE_MPI
#include <mpi.h>
#endif

namespace pq {
namespace {

[[noreturn]] void refuse(std::string_view what, std::string_view remedy) {
  const int size = launch().size;
  throw UnsupportedError("mpirun", size > 0 ? fmt::format("started {} processes, but {}", size, what) : what, remedy);
}

#ifdef PQ_HAVE_MPI

void check(int code, std::string_view call) {
  if (code == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  throw SystemError(call, std::string_view(text.data(), static_cast<std::size_t>(length)),
                    "check the network and the other processes, then start again");
}

bool is_running() {
  int started = 0;
  int finished = 0;
  MPI_Initialized(&started);
  MPI_Finalized(&finished);
  return started != 0 && finished == 0;
}

template <typename T, typename Call>
void in_messages(std::span<T> values, const Call& call) {
  while (!values.empty()) {
    const auto part = values.first(std::min(values.size(), Communicator::message_elements));
    call(part.data(), static_cast<int>(part.size()));
    values = values.subspan(part.size());
  }
}

template <typename T>
void reduce(std::span<T> values, MPI_Datatype type, MPI_Op operation) {
  in_messages(values, [&](T* data, int count) {
    check(MPI_Allreduce(MPI_IN_PLACE, data, count, type, operation, MPI_COMM_WORLD), "MPI_Allreduce");
  });
}

template <typename T>
void send_from_root(std::span<T> values, MPI_Datatype type) {
  in_messages(values, [&](T* data, int count) { check(MPI_Bcast(data, count, type, 0, MPI_COMM_WORLD), "MPI_Bcast"); });
}

/// What the ranks of one machine may use of its processors.
struct Processors {
  int share = 1;    ///< for each rank
  int all = 0;      ///< for any of them
  int machine = 0;  ///< that there are
};

/// A launcher may bind each rank to a core, several ranks to a socket, or none to anything. A processor that k ranks of
/// `local` may use counts as 1/k. The share is the least over all ranks: LibTorch's float sums can depend on the number
/// of threads.
Processors share_processors(MPI_Comm local) {
  cpu_set_t own;
  CPU_ZERO(&own);
  std::array<int, CPU_SETSIZE> users{};
  const bool known = ::sched_getaffinity(0, sizeof own, &own) == 0;
  for (std::size_t cpu = 0; cpu < users.size() && known; ++cpu) users[cpu] = CPU_ISSET(cpu, &own) ? 1 : 0;
  check(MPI_Allreduce(MPI_IN_PLACE, users.data(), CPU_SETSIZE, MPI_INT, MPI_SUM, local), "MPI_Allreduce");
  double share = 0;
  for (std::size_t cpu = 0; cpu < users.size() && known; ++cpu) {
    if (CPU_ISSET(cpu, &own)) share += 1.0 / users[cpu];
  }
  Processors processors;
  processors.share = std::max(1, static_cast<int>(share + 1e-6));
  processors.all = static_cast<int>(std::count_if(users.begin(), users.end(), [](int n) { return n > 0; }));
  processors.machine = static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN));
  check(MPI_Allreduce(MPI_IN_PLACE, &processors.share, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD), "MPI_Allreduce");
  return processors;
}

#endif

}  // namespace

Communicator& Communicator::world() {
  static Communicator instance;
  return instance;
}

Communicator::Range Communicator::share(std::size_t total, int rank, int size) {
  const auto ranks = static_cast<std::size_t>(size);
  const auto r = static_cast<std::size_t>(rank);
  const std::size_t each = total / ranks;
  const std::size_t rest = total % ranks;
  const std::size_t begin = r * each + std::min(r, rest);
  return {begin, begin + each + (r < rest ? 1 : 0)};
}

#ifdef PQ_HAVE_MPI

Communicator::Communicator() {
  if (launch().one_process()) return;
  if (!is_running()) {
    int provided = 0;
    check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
    if (provided < MPI_THREAD_FUNNELED) {
      throw UnsupportedError("MPI", "this library does not allow programs with threads", "use another build of it");
    }
  }
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  check(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "MPI_Comm_rank");
  check(MPI_Comm_size(MPI_COMM_WORLD, &size_), "MPI_Comm_size");
  if (launch().size > 0 && size_ != launch().size) {
    refuse(fmt::format("the MPI library of this program sees {}", size_),
           "use the mpirun of the MPI that pq was built with");
  }
  MPI_Comm local = MPI_COMM_NULL;
  check(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &local), "MPI_Comm_split_type");
  check(MPI_Comm_size(local, &local_size_), "MPI_Comm_size");
  const Processors processors = share_processors(local);
  MPI_Comm_free(&local);
  set_available_processors(processors.share);
  log_info("{} processes, threads each: {}", size_, thread_count());
  if (processors.all < processors.machine) {
    log_info("the launcher gave them {} of {} processors here; mpirun --bind-to none leaves them all", processors.all,
             processors.machine);
  }
}

void Communicator::sum(std::span<float> values) {
  if (size_ > 1) reduce(values, MPI_FLOAT, MPI_SUM);
}
void Communicator::sum(std::span<double> values) {
  if (size_ > 1) reduce(values, MPI_DOUBLE, MPI_SUM);
}
void Communicator::sum(std::span<std::int64_t> values) {
  if (size_ > 1) reduce(values, MPI_INT64_T, MPI_SUM);
}
void Communicator::min(std::span<float> values) {
  if (size_ > 1) reduce(values, MPI_FLOAT, MPI_MIN);
}
void Communicator::max(std::span<float> values) {
  if (size_ > 1) reduce(values, MPI_FLOAT, MPI_MAX);
}
void Communicator::max(std::span<double> values) {
  if (size_ > 1) reduce(values, MPI_DOUBLE, MPI_MAX);
}

void Communicator::broadcast(std::vector<std::byte>& bytes) {
  if (size_ == 1) return;
  std::array<std::uint64_t, 1> length{bytes.size()};
  send_from_root(std::span<std::uint64_t>(length), MPI_UINT64_T);
  bytes.resize(length[0]);
  send_from_root(std::span<std::byte>(bytes), MPI_BYTE);
}
void Communicator::broadcast(std::span<float> values) {
  if (size_ > 1) send_from_root(values, MPI_FLOAT);
}

void Communicator::barrier() {
  if (size_ > 1) check(MPI_Barrier(MPI_COMM_WORLD), "MPI_Barrier");
}

void Communicator::finish() {
  if (is_running()) MPI_Finalize();
}

void Communicator::abort(int code) {
  if (is_running()) MPI_Abort(MPI_COMM_WORLD, code);
}

#else

Communicator::Communicator() {
  if (launch().one_process()) return;
  refuse("this program was built without MPI", "build it with cmake -DPQ_WITH_MPI=ON, or start it without mpirun");
}

void Communicator::sum(std::span<float>) {}
void Communicator::sum(std::span<double>) {}
void Communicator::sum(std::span<std::int64_t>) {}
void Communicator::min(std::span<float>) {}
void Communicator::max(std::span<float>) {}
void Communicator::max(std::span<double>) {}
void Communicator::broadcast(std::vector<std::byte>&) {}
void Communicator::broadcast(std::span<float>) {}
void Communicator::barrier() {}
void Communicator::finish() {}
void Communicator::abort(int) {}

#endif

}  // namespace pq
