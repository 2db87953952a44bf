#include "runtime/rope.h"

#include <cmath>

#include "base/index.h"

namespace pq::runtime {

std::shared_ptr<const RopeChunk> RopeTable::chunk(std::int64_t i) const {
  const std::lock_guard lock(mutex_);
  if (chunks_.size() <= index(i)) chunks_.resize(index(i) + 1);
  if (chunks_[index(i)]) return chunks_[index(i)];
  const auto half = static_cast<std::int64_t>(frequencies_.size());
  auto made = std::make_shared<RopeChunk>();
  made->cos.resize(index(RopeChunk::positions * half));
  made->sin.resize(made->cos.size());
  for (std::int64_t pair = 0; pair < half; ++pair) {
    for (std::int64_t position = 0; position < RopeChunk::positions; ++position) {
      const double angle = static_cast<double>(i * RopeChunk::positions + position) * frequencies_[index(pair)];
      made->cos[index(position * half + pair)] = static_cast<float>(amplitude_ * std::cos(angle));
      made->sin[index(position * half + pair)] = static_cast<float>(amplitude_ * std::sin(angle));
    }
  }
  chunks_[index(i)] = made;
  return made;
}

}  // namespace pq::runtime
