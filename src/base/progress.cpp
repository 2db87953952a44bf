#include "base/progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/launch.h"
#include "base/log.h"
#include "base/terminal.h"

namespace pq {
Progress::Progress(std::string_view name, std::size_t total)
    : name_(name), total_(std::max<std::size_t>(1, total)), terminal_(stderr_is_terminal()) {
  if (terminal_) draw(false);
}

Progress::~Progress() {
  if (done_ > 0) draw(true);
}

void Progress::advance(std::size_t steps, std::string_view detail) {
  done_ = std::min(total_, done_ + steps);
  detail_ = detail;
  const double now = seconds();
  if (now - drawn_at_ < (terminal_ ? 0.1 : 5.0)) return;
  drawn_at_ = now;
  draw(false);
}

void Progress::draw(bool last) {
  if (log_level() == LogLevel::quiet || launch().rank != 0) return;
  const double elapsed = seconds();
  const double share = static_cast<double>(done_) / static_cast<double>(total_);
  std::string time = last ? format_duration(elapsed) : "";
  if (!last && done_ > 0) time = "ETA " + format_duration(elapsed * (1.0 - share) / share);
  if (!terminal_) {
    put_on_stderr(fmt::format("{}: {}/{} {}{}{}\n", name_, done_, total_, time, detail_.empty() ? "" : "  ", detail_));
    return;
  }
  const auto cells = static_cast<std::size_t>(std::lround(share * 24));
  const std::string line = fmt::format("{:<16} [{}{}] {}/{} {}  {}", name_, std::string(cells, '#'),
                                       std::string(24 - cells, '.'), done_, total_, time, detail_);
  redraw_line(line, last);
}

std::string format_duration(double seconds) {
  if (seconds < 10) return fmt::format("{:.1f}s", seconds);
  const auto whole = static_cast<long>(std::lround(seconds));
  if (whole < 60) return fmt::format("{}s", whole);
  if (whole < 3600) return fmt::format("{}:{:02}", whole / 60, whole % 60);
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

std::string format_bytes(double bytes) {
  static constexpr const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  while (bytes >= 1024 && unit < 4) {
    bytes /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.1f} {}", bytes, units[unit]);
}

}  // namespace pq
