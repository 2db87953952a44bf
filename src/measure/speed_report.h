#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "measure/limits.h"

namespace pq::measure {

/// One line of the table: a model (or a layer) under one test.
struct BenchRow {
  std::string shape;
  std::string recipe;
  std::string test;
  std::string group;  ///< rows of one group and test were measured in turns and can be compared
  bool quantized = false;
  std::string_view limit{};                 ///< the one that binds, in most of the runs
  std::vector<double> tokens_per_second{};  ///< of every run
  std::vector<double> limits_per_second{};  ///< tokens per second that the limits, measured before it, would allow
  std::vector<double> vector_limits_per_second{};  ///< the same without a matrix unit; empty where there is none

  double median() const { return median_of(tokens_per_second); }
  /// Largest less smallest, over the median.
  double spread() const;
  /// Median over the runs of the share of the limit that they reached.
  double limit_share() const;
  /// The same of the limits without a matrix unit; 0 where there is none.
  double vector_limit_share() const;
};

/// How much faster one recipe is than another under a test: median of the ratios of runs in the same turn.
struct BenchRatio {
  std::string shape;
  std::string recipe;
  std::string over;
  std::string test;
  double ratio = 0;
};
/// Quantized over unquantized, static over dynamic, 4-bit over 8-bit activations.
std::vector<BenchRatio> ratios_of(const std::vector<BenchRow>& rows);

struct StartUp {
  std::string shape;
  std::string recipe;
  double seconds = 0;  ///< to map the checkpoint and pack its weights
};

struct BenchReport {
  std::string kernels;
  std::string processor;
  int threads = 0;
  int repetitions = 0;
  kernels::MachineLimits limits{};  ///< medians
  kernels::MachineLimits best_limits{};
  std::size_t limit_count = 0;
  std::vector<BenchRow> rows{};
  std::vector<StartUp> start_ups{};
};

Json report_json(const BenchReport& report);
std::string report_text(const BenchReport& report);

/// What the system calls this processor.
std::string processor_name();

}  // namespace pq::measure
