#include "base/terminal.h"

#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "base/display_width.h"

namespace pq {
namespace {

bool line_is_open = false;
termios terminal_before{};
volatile std::sig_atomic_t keys_are_taken = 0;

}  // namespace

std::size_t terminal_width() {
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

void take_keys() {
  if (keys_are_taken != 0 || ::tcgetattr(STDIN_FILENO, &terminal_before) != 0) return;
  termios keys = terminal_before;
  keys.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO | IEXTEN);
  keys.c_iflag &= ~static_cast<tcflag_t>(IXON | ICRNL | INLCR | IGNCR);
  keys.c_cc[VMIN] = 1;
  keys.c_cc[VTIME] = 0;
  ::tcsetattr(STDIN_FILENO, TCSADRAIN, &keys);
  keys_are_taken = 1;
}

void keys_send_signals(bool send) {
  termios keys{};
  if (keys_are_taken == 0 || ::tcgetattr(STDIN_FILENO, &keys) != 0) return;
  keys.c_lflag = send ? keys.c_lflag | ISIG : keys.c_lflag & ~static_cast<tcflag_t>(ISIG);
  ::tcsetattr(STDIN_FILENO, TCSADRAIN, &keys);
}

void give_back_terminal() noexcept {
  if (keys_are_taken == 0) return;
  ::tcsetattr(STDIN_FILENO, TCSADRAIN, &terminal_before);
  keys_are_taken = 0;
}

bool stderr_is_terminal() { return ::isatty(STDERR_FILENO) != 0; }

bool stderr_has_color() {
  const char* no_color = std::getenv("NO_COLOR");
  if (no_color != nullptr && *no_color != '\0') return false;
  const char* term = std::getenv("TERM");
  return stderr_is_terminal() && term != nullptr && std::strcmp(term, "dumb") != 0;
}

void put_on_stderr(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stderr); }

void redraw_line(std::string_view line, bool last) {
  put_on_stderr("\r\033[K" + std::string(cut_to_width(line, terminal_width() - 1)) + (last ? "\n" : ""));
  std::fflush(stderr);
  line_is_open = !last;
}

void clear_redrawn_line() {
  if (!line_is_open) return;
  put_on_stderr("\r\033[K");
  line_is_open = false;
}

}  // namespace pq
