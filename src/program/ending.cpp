#include "program/ending.h"

#include <fmt/color.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>

#include "base/communicator.h"
#include "base/error.h"
#include "base/launch.h"
#include "base/map_faults.h"
#include "base/terminal.h"
#include "program/output.h"

namespace pq {
namespace {

extern "C" void end_on_signal(int signal) {
  static constexpr std::string_view message = "\ninterrupted\n";
  give_back_terminal();
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, message.data(), message.size());
  ::raise(signal);  // SA_RESETHAND has put the default action back: the parent sees the signal itself
}

/// The first line alone, without characters that could steer a terminal.
std::string printable_line(std::string_view text) {
  std::string line(text.substr(0, text.find('\n')));
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = c == '\t' ? ' ' : '?';
  }
  return line;
}

void print_error(std::string_view text) {
  clear_redrawn_line();
  std::string tag = "error:";
  if (stderr_has_color()) tag = fmt::format(fmt::emphasis::bold | fmt::fg(fmt::terminal_color::red), "error:");
  const std::string line = fmt::format("{} {}\n", tag, printable_line(text));
  std::fwrite(line.data(), 1, line.size(), stderr);
}

/// How the program ends. `message` is empty where nothing went wrong.
struct Ending {
  int code = 0;
  std::string message{};
};

Ending ending_of_current_exception() {
  try {
    throw;
  } catch (const ReaderGone&) {
    return {};
  } catch (const Error& error) {
    return {error.exit_code(), error.what()};
  } catch (const std::bad_alloc&) {
    return {2,
            "memory: there is not enough of it; close other programs, or use a smaller --threads or a smaller model"};
  } catch (const std::system_error& error) {
    return {2, error.what()};
  } catch (const std::exception& error) {
    // LibTorch reports exhausted memory as an ordinary error, with a stack trace below the first line.
    const std::string line = printable_line(error.what());
    if (line.find("llocate memory") != std::string::npos || line.find("out of memory") != std::string::npos) {
      return {2, fmt::format("memory: {}; use a smaller model, or a device with more memory", line)};
    }
    return {1, fmt::format("internal error: {}; please report this with the command that caused it", line)};
  } catch (...) {
    return {1, "internal error: an exception of unknown type; please report this with the command that caused it"};
  }
}

/// Reports an error and, under a launcher, ends the other ranks, which may wait for this one for ever. Most errors (a
/// wrong flag, a damaged file) all ranks meet at once: the first rank reports them, and ends the others while they wait
/// here. A rank that is still there after that reports an error of its own.
void fail(const Ending& ending) {
  const int rank = launch().rank;
  if (rank > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1000 + 100 * std::min(rank, 20)));
  print_error(rank > 0 ? fmt::format("rank {}: {}", rank, ending.message) : ending.message);
  Communicator::abort(ending.code);
}

}  // namespace

void install_signal_handlers() {
  std::signal(SIGPIPE, SIG_IGN);  // a failed write is noticed where it happens
  report_map_faults();
  if (!launch().one_process()) return;  // the launcher ends all by signals, and says why
  for (const int number : {SIGINT, SIGTERM}) {
    struct sigaction old {};
    if (::sigaction(number, nullptr, &old) == 0 && old.sa_handler == SIG_IGN)
      continue;  // started by nohup or in the background
    struct sigaction action {};
    action.sa_handler = end_on_signal;
    action.sa_flags = static_cast<int>(SA_RESETHAND | SA_NODEFER);
    ::sigaction(number, &action, nullptr);
  }
}

int end_with_current_exception() {
  const Ending ending = ending_of_current_exception();
  if (!ending.message.empty()) fail(ending);
  return ending.code;
}

}  // namespace pq
