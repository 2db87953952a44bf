#include "runtime/sequence.h"

namespace pq::runtime {

Sequence::Sequence(const ModelParts& parts, std::int64_t sequence_capacity)
    : cache(parts.kv_plans(), sequence_capacity), capacity(sequence_capacity) {}

void Sequence::cover(const ModelParts& parts, std::int64_t tokens) {
  const std::int64_t last = (parts.prefix() + tokens + RopeChunk::positions - 1) / RopeChunk::positions;
  ropes.resize(parts.ropes.size());
  for (std::size_t i = 0; i < ropes.size(); ++i) {
    while (static_cast<std::int64_t>(ropes[i].size()) < last) {
      ropes[i].push_back(parts.ropes[i].chunk(static_cast<std::int64_t>(ropes[i].size())));
    }
  }
}

Batch::Batch(std::span<const Run> runs) : runs_(runs) {
  first_row_.reserve(runs.size());
  for (std::size_t run = 0; run < runs.size(); ++run) {
    first_row_.push_back(rows());
    run_of_.resize(run_of_.size() + runs[run].tokens.size(), static_cast<std::int64_t>(run));
  }
}

}  // namespace pq::runtime
