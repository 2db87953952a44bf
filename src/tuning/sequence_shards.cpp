#include "tuning/sequence_shards.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/random.h"

namespace pq::quant {

SequenceShards::SequenceShards(std::int64_t tuning, std::int64_t validation, std::int64_t batch, int rank, int ranks)
    : tuning_(tuning), validation_(validation), batch_(batch) {
  if (tuning > 0 && ranks > batch) {
    throw InputError("mpirun", fmt::format("{} processes cannot share batches of {} sequences", ranks, batch),
                     fmt::format("start at most {}, or set finetune.batch={}", batch, ranks));
  }
  for (std::int64_t i = 0; i < tuning + validation; ++i) {
    const std::int64_t owner = i < tuning ? (i % batch) % ranks : (i - tuning) % ranks;
    row_of_.push_back(owner == rank ? static_cast<std::int64_t>(owned_.size()) : -1);
    if (owner == rank) owned_.push_back(i);
  }
}

std::vector<SequenceShards::Batch> SequenceShards::batches(std::uint64_t seed, std::int64_t stream,
                                                           std::int64_t epoch) const {
  std::vector<Batch> result(static_cast<std::size_t>(steps()));
  for (std::int64_t lane = 0; lane < batch_; ++lane) {
    std::vector<std::int64_t> sequences;
    for (std::int64_t i = lane; i < tuning_; i += batch_) sequences.push_back(i);
    Random random(seed, fmt::format("fine-tuning {} epoch {} lane {}", stream, epoch, lane));
    random.shuffle(sequences);
    for (std::size_t step = 0; step < sequences.size(); ++step) {
      ++result[step].size;
      const std::int64_t row = row_of_[static_cast<std::size_t>(sequences[step])];
      if (row >= 0) result[step].rows.push_back(row);
    }
  }
  return result;
}

std::vector<std::int64_t> SequenceShards::judging_rows() const {
  std::vector<std::int64_t> rows;
  for (std::size_t row = 0; row < owned_.size(); ++row) {
    if (validation_ == 0 || owned_[row] >= tuning_) rows.push_back(static_cast<std::int64_t>(row));
  }
  return rows;
}

}  // namespace pq::quant
