#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace pq {

/// The processes of one `mpirun -np N pq ...`, or just this one. MPI is started only when the environment says that a
/// launcher started several processes; elsewhere every call below returns at once. Calls are collective: every rank
/// makes the same ones in the same order, with spans of the same length, from its main thread. A process that uses MPI
/// cannot execv another that does: `pq` hands verbs on to pq-lab before it touches world().
class Communicator {
 public:
  /// Started on first use; then --threads 0 stands for this process's part of the processors that the ranks of one
  /// machine share, the same number on every rank. Throws UnsupportedError where this program was built without MPI, or
  /// for another MPI than the launcher's: copies of the same work would write to the same files.
  static Communicator& world();

  int rank() const { return rank_; }
  int size() const { return size_; }
  bool is_root() const { return rank_ == 0; }
  /// Ranks on this machine: they share its memory.
  int local_size() const { return local_size_; }

  /// In place, over all ranks; the same bits on every rank. Throws SystemError, as all below, when MPI reports a fault.
  void sum(std::span<float> values);
  void sum(std::span<double> values);
  void sum(std::span<std::int64_t> values);
  void min(std::span<float> values);
  void max(std::span<float> values);
  void max(std::span<double> values);
  /// From the root to all; `bytes` is resized elsewhere.
  void broadcast(std::vector<std::byte>& bytes);
  void broadcast(std::span<float> values);
  void barrier();

  struct Range {
    std::size_t begin;
    std::size_t end;
    std::size_t size() const { return end - begin; }
  };
  /// This rank's contiguous part of [0, total): lengths differ by at most one, the last ranks' may be 0.
  Range share(std::size_t total) const { return share(total, rank_, size_); }
  static Range share(std::size_t total, int rank, int size);

  /// Elements that go into one message; longer spans are split.
  static constexpr std::size_t message_elements = std::size_t{1} << 20;

  /// For the end of the program: finish() ends MPI where it was started, and waits for the other ranks; abort() ends
  /// all ranks with `code`, and returns where MPI was not started.
  static void finish();
  static void abort(int code);

  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

 private:
  Communicator();
  int rank_ = 0;
  int size_ = 1;
  int local_size_ = 1;
};

}  // namespace pq
