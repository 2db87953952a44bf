#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace pq::runtime {

/// cos and sin of 256 neighbouring positions, [256][head_dim / 2] each, rounded from float64.
struct RopeChunk {
  static constexpr std::int64_t positions = 256;
  std::vector<float> cos;
  std::vector<float> sin;
};

/// The rotary table, made as far as it was asked for.
class RopeTable {
 public:
  /// `frequencies` [head_dim / 2]: radians a position.
  explicit RopeTable(std::vector<double> frequencies) : frequencies_(std::move(frequencies)) {}
  /// Positions 256 * index .. 256 * index + 255. Safe from any thread.
  std::shared_ptr<const RopeChunk> chunk(std::int64_t index) const;

 private:
  std::vector<double> frequencies_;
  mutable std::mutex mutex_;
  mutable std::vector<std::shared_ptr<const RopeChunk>> chunks_;
};

}  // namespace pq::runtime
