#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/stopwatch.h"

namespace pq {

/// One step of known length on stderr: a bar with an ETA that redraws itself on a terminal, plain lines (at most one
/// every 5 seconds, and one at the end) otherwise. Nothing is drawn when the log level is quiet.
class Progress {
 public:
  Progress(std::string_view name, std::size_t total);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `detail` stands behind the bar until the next call, for example "block 3, down_proj".
  void advance(std::size_t steps = 1, std::string_view detail = {});

  double seconds() const { return stopwatch_.seconds(); }

 private:
  void draw(bool last);

  std::string name_;
  std::string detail_;
  std::size_t total_;
  std::size_t done_ = 0;
  bool terminal_;
  Stopwatch stopwatch_;
  double drawn_at_ = 0;  // seconds of the stopwatch
};

/// 75 -> "1:15", 3725 -> "1:02:05", 0.42 -> "0.4s", 12.3 -> "12s".
std::string format_duration(double seconds);
/// 1536 -> "1.5 KiB".
std::string format_bytes(double bytes);

}  // namespace pq
