#pragma once

#include <string>

#include "base/stopwatch.h"

namespace pq {

/// A phase of the work: says at --verbose, when it ends, how long it took and how much memory the process has needed at
/// most so far ("prefill: 0.42 s, peak memory 1.5 GiB"). Says nothing where an exception ends it.
class PhaseTimer {
 public:
  explicit PhaseTimer(std::string name);
  ~PhaseTimer();
  PhaseTimer(const PhaseTimer&) = delete;
  PhaseTimer& operator=(const PhaseTimer&) = delete;
  double seconds() const { return stopwatch_.seconds(); }

 private:
  std::string name_;
  Stopwatch stopwatch_;
  int exceptions_;
};

}  // namespace pq
