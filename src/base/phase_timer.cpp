#include "base/phase_timer.h"

#include <exception>
#include <utility>

#include "base/log.h"
#include "base/memory_usage.h"
#include "base/progress.h"

namespace pq {

PhaseTimer::PhaseTimer(std::string name) : name_(std::move(name)), exceptions_(std::uncaught_exceptions()) {}

PhaseTimer::~PhaseTimer() {
  if (log_level() != LogLevel::verbose || std::uncaught_exceptions() != exceptions_) return;
  try {
    log_verbose("{}: {:.2f} s, peak memory {}", name_, seconds(),
                format_bytes(static_cast<double>(peak_resident_bytes())));
  } catch (...) {  // a line less is no reason to end the program
  }
}

}  // namespace pq
