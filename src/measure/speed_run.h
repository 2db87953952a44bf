#pragma once

#include <vector>

#include "measure/model_speed.h"
#include "measure/speed_report.h"
#include "measure/speed_tests.h"

namespace pq::measure {

/// What to time, and how often.
struct SpeedPlan {
  std::vector<BenchTest> tests;
  std::vector<Subject> subjects;
  bool linear = false;  ///< single linear layers of a large model, too
  int repetitions = 0;  ///< runs of each test
};

/// Runs every test on every subject, those that are compared in turns, and measures the machine's limits before each
/// run. Progress goes to stderr. Throws InputError for a subject that memory does not hold, and what loading throws.
BenchReport measure_speed(SpeedPlan plan);

}  // namespace pq::measure
