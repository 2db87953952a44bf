#include "cli/interrupt_note.h"

#include <csignal>
#include <utility>

#include "base/terminal.h"

namespace pq::cli {
namespace {

volatile std::sig_atomic_t noted = 0;

extern "C" void note_signal(int number) {
  if (noted == 0) {
    noted = number;
    return;
  }
  give_back_terminal();
  ::signal(number, SIG_DFL);
  ::raise(number);
}

}  // namespace

InterruptNote::InterruptNote() {
  noted = 0;
  struct sigaction action {};
  action.sa_handler = note_signal;
  action.sa_flags = static_cast<int>(SA_NODEFER);
  for (std::size_t i = 0; i < signals.size(); ++i) {
    ::sigaction(signals[i], nullptr, &before_[i]);
    if (before_[i].sa_handler != SIG_IGN) ::sigaction(signals[i], &action, nullptr);
  }
}

InterruptNote::~InterruptNote() {
  for (std::size_t i = 0; i < signals.size(); ++i) ::sigaction(signals[i], &before_[i], nullptr);
  noted = 0;
}

int InterruptNote::signal() const noexcept { return noted; }

int InterruptNote::take() noexcept {
  const int number = noted;
  noted = 0;
  return number;
}

}  // namespace pq::cli
