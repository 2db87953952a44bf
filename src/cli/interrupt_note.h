#pragma once

#include <signal.h>

#include <array>

namespace pq::cli {

/// While it lives, Ctrl-C and SIGTERM are noted instead of ending the process; one that comes before the last was taken
/// ends it. Of several alive the innermost counts.
class InterruptNote {
 public:
  InterruptNote();
  ~InterruptNote();
  InterruptNote(const InterruptNote&) = delete;
  InterruptNote& operator=(const InterruptNote&) = delete;

  /// The signal that has come, or 0.
  int signal() const noexcept;
  /// The same, and forgets it.
  int take() noexcept;

 private:
  static constexpr std::array<int, 2> signals{SIGINT, SIGTERM};
  std::array<struct sigaction, 2> before_{};
};

}  // namespace pq::cli
