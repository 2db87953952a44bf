#pragma once

#include <cstddef>
#include <string_view>

// stderr, where people read what goes on, and the keys that they press.

namespace pq {

bool stderr_is_terminal();

/// Has the terminal at stdin give keys one by one, without showing them, until give_back_terminal().
void take_keys();
/// Whether the keys for that (Ctrl-C, Ctrl-Z) send signals, as they do after take_keys().
void keys_send_signals(bool send);
/// The terminal as it was before take_keys(); nothing without that. A signal handler may call it.
void give_back_terminal() noexcept;

/// Columns of the terminal at stderr; 80 where there is none.
std::size_t terminal_width();

/// Whether stderr is a terminal that wants colour (NO_COLOR, TERM=dumb respected).
bool stderr_has_color();

/// Writes to stderr as it is. What cannot be written (a full disk, a closed pipe) is lost, never an exception.
void put_on_stderr(std::string_view text);

/// Draws a line of a terminal again, cut to its width. It stays open, so that the next call draws over it, unless it is
/// the `last` time.
void redraw_line(std::string_view line, bool last);

/// Wipes a line that redraw_line() left open, so that other text does not run into it.
void clear_redrawn_line();

}  // namespace pq
