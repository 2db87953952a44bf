#pragma once

#include <cstdint>
#include <vector>

namespace pq::quant {

/// How the fine-tuning's sequences are shared between processes and mixed into batches. Tuning sequence i belongs to
/// lane i % batch, and a batch takes one sequence of every lane: each epoch shuffles inside the lanes. So batches are
/// the same for every number of processes, and each process has its share of every batch.
class SequenceShards {
 public:
  /// Throws InputError when there are more processes than sequences in a batch.
  SequenceShards(std::int64_t tuning, std::int64_t validation, std::int64_t batch, int rank, int ranks);

  /// Sequences that this process holds, tuning first; validation sequences are numbered from tuning_count() on.
  const std::vector<std::int64_t>& owned() const { return owned_; }
  std::int64_t tuning_count() const { return tuning_; }
  std::int64_t validation_count() const { return validation_; }
  std::int64_t steps() const { return (tuning_ + batch_ - 1) / batch_; }

  struct Batch {
    std::vector<std::int64_t> rows;  ///< positions in owned() of this process's part
    std::int64_t size = 0;           ///< sequences of the batch on all processes together
  };
  /// The batches of an epoch. The same seed, stream and epoch give the same ones.
  std::vector<Batch> batches(std::uint64_t seed, std::int64_t stream, std::int64_t epoch) const;
  /// Positions in owned() of the sequences that judge: the validation sequences, or without any the tuning ones.
  std::vector<std::int64_t> judging_rows() const;
  std::int64_t judging_count() const { return validation_ > 0 ? validation_ : tuning_; }

 private:
  std::int64_t tuning_;
  std::int64_t validation_;
  std::int64_t batch_;
  std::vector<std::int64_t> owned_;
  std::vector<std::int64_t> row_of_;  // of every sequence; -1 when another process has it
};

}  // namespace pq::quant
