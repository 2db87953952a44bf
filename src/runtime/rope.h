#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace pq::runtime {

/// cos and sin of 256 neighbouring positions, [256][pairs] each, times the amplitude, rounded from float64.
struct RopeChunk {
  static constexpr std::int64_t positions = 256;
  std::vector<float> cos;
  std::vector<float> sin;
};

/// The rotary table, made as far as it was asked for.
class RopeTable {
 public:
  /// `frequencies` [pairs]: radians a position. `amplitude`: what cos and sin are multiplied by.
  RopeTable(std::vector<double> frequencies, double amplitude)
      : frequencies_(std::move(frequencies)), amplitude_(amplitude) {}
  /// Channels of a head that turn: two a pair.
  std::int64_t width() const { return 2 * static_cast<std::int64_t>(frequencies_.size()); }
  /// Positions 256 * index .. 256 * index + 255. Safe from any thread.
  std::shared_ptr<const RopeChunk> chunk(std::int64_t index) const;

 private:
  std::vector<double> frequencies_;
  double amplitude_;
  mutable std::mutex mutex_;
  mutable std::vector<std::shared_ptr<const RopeChunk>> chunks_;
};

}  // namespace pq::runtime
