#include "cli/line_editor.h"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <utility>

#include "base/error.h"
#include "base/terminal.h"

namespace pq::cli {

bool LineEditor::possible() {
  const char* term = std::getenv("TERM");
  return ::isatty(STDIN_FILENO) != 0 && stderr_is_terminal() && term != nullptr && std::string_view(term) != "dumb";
}

LineEditor::LineEditor(std::string prompt) : prompt_(std::move(prompt)) {
  put_on_stderr("\033[?2004h");
  take_keys();
}

LineEditor::~LineEditor() {
  give_back_terminal();
  put_on_stderr("\033[?2004l");
}

void LineEditor::show() {
  const Drawing drawing =
      draw_line(prompt_, buffer_.text(), buffer_.cursor(), std::max<std::size_t>(terminal_width(), 4));
  std::string out;
  if (cursor_row_ > 0) out += fmt::format("\033[{}A", cursor_row_);
  out += "\r\033[J" + drawing.text;
  last_row_ = drawing.rows - 1;
  if (last_row_ > drawing.cursor_row) out += fmt::format("\033[{}A", last_row_ - drawing.cursor_row);
  out += '\r';
  if (drawing.cursor_column > 0) out += fmt::format("\033[{}C", drawing.cursor_column);
  cursor_row_ = drawing.cursor_row;
  put_on_stderr(out);
}

void LineEditor::leave() {
  put_on_stderr((last_row_ > cursor_row_ ? fmt::format("\033[{}B", last_row_ - cursor_row_) : "") + "\r\n");
  cursor_row_ = 0;
}

LineBuffer::State LineEditor::read(std::string& line) {
  using State = LineBuffer::State;
  cursor_row_ = 0;
  keys_send_signals(false);
  State state = buffer_.next_line();
  for (;;) {
    show();
    if (state == State::suspended) {
      leave();
      give_back_terminal();
      ::raise(SIGTSTP);
      take_keys();
      keys_send_signals(false);
      state = buffer_.feed({});
      continue;
    }
    if (state != State::typing) break;
    std::array<char, 4096> bytes{};
    const ssize_t got = ::read(STDIN_FILENO, bytes.data(), bytes.size());
    if (got < 0 && errno != EINTR && errno != EIO) throw_errno("stdin", "cannot read", "start it on a terminal");
    if (got < 0 && errno == EINTR) {
      state = State::interrupted;
    } else if (got <= 0) {  // the terminal has gone
      state = State::ended;
    } else {
      state = buffer_.feed({bytes.data(), static_cast<std::size_t>(got)});
    }
  }
  keys_send_signals(true);
  leave();
  line = buffer_.text();
  return state;
}

}  // namespace pq::cli
